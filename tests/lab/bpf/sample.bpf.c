/* What the tests load: programs that count, drop and report frames. Helpers are declared by number (linux/bpf.h), so
 * only the kernel's own headers are needed. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static void *(*bpf_ringbuf_reserve)(void *ringbuf, __u64 size, __u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static void (*bpf_ringbuf_discard)(void *data, __u64 flags) = (void *)133;

struct flow {
	__u32 ifindex;
	__u16 protocol;
	__u16 zero;
};

struct seen {
	__u64 frames;
	__u32 length;
	__u32 mark;
};

struct report {
	__u32 length;
	__u32 sequence;
	__u8 padding[56];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct flow);
	__type(value, struct seen);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 128);
	__uint(key_size, 6);
	__uint(value_size, 8);
} a_name_longer_than_the_kernels SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u8[12]);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} reports SEC(".maps");

INLINE void count(struct __sk_buff *skb)
{
	struct flow key = {.ifindex = skb->ifindex, .protocol = skb->protocol};
	struct seen first = {.frames = 1, .length = skb->len};
	struct seen *seen = bpf_map_lookup_elem(&flows, &key);
	__u32 index = 0;
	__u32 *counter = bpf_map_lookup_elem(&counters, &index);

	if (seen) {
		__sync_fetch_and_add(&seen->frames, 1);
		seen->length = skb->len;
	} else {
		bpf_map_update_elem(&flows, &key, &first, BPF_ANY);
	}
	if (counter)
		*counter += 1;
}

/* Settings 0: every so many frames are discarded from the reports; 1: the number of the next report. */
INLINE void tell(struct __sk_buff *skb)
{
	__u32 every_at = 0, next_at = 1;
	__u64 *every = bpf_map_lookup_elem(&settings, &every_at);
	__u64 *next = bpf_map_lookup_elem(&settings, &next_at);
	struct report *report = bpf_ringbuf_reserve(&reports, sizeof(*report), 0);

	if (!report)
		return;
	if (!every || !next) {
		bpf_ringbuf_discard(report, 0);
		return;
	}
	__builtin_memset(report, 0, sizeof(*report));
	report->length = skb->len;
	report->sequence = *next;
	*next += 1;
	if (*every && report->sequence % (__u32)*every == 0)
		bpf_ringbuf_discard(report, 0);
	else
		bpf_ringbuf_submit(report, 0);
}

SEC("tc") int pass_and_count(struct __sk_buff *skb)
{
	count(skb);
	return TC_ACT_OK;
}

SEC("tc") int drop_and_count(struct __sk_buff *skb)
{
	count(skb);
	return TC_ACT_SHOT;
}

SEC("tc") int pass_and_tell(struct __sk_buff *skb)
{
	tell(skb);
	return TC_ACT_OK;
}

char _license[] SEC("license") = "Apache-2.0";
