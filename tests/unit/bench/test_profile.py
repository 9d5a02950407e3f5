"""Samples of perf read and sorted by what was at work."""

from collections import Counter

from bench.profile import REST, Sample, samples, shares, to_markdown

SCRIPT = """\
iperf3  1234 [000]
        ffffffff81a0 _copy_from_iter+0x10 ([kernel.kallsyms])
        ffffffff81a1 tcp_sendmsg_locked+0x1 ([kernel.kallsyms])

python  99 [001]
            7f00 [unknown] (/usr/bin/python3.11)

python  99 [001]
        ffffffff81b0 memset ([kernel.kallsyms])
        ffffffff81b1 skb_segment+0x5 ([kernel.kallsyms])

kworker/0:1  7 [000]
        ffffffff81c0 something_else ([kernel.kallsyms])

""".splitlines()


def test_samples_are_read() -> None:
    first, second, *_ = samples(SCRIPT)
    assert first == Sample("iperf3", 0, ("_copy_from_iter", "tcp_sendmsg_locked"), "[kernel.kallsyms]")
    assert second == Sample("python", 1, ("[unknown]",), "/usr/bin/python3.11")


def test_each_sample_counts_once() -> None:
    counts = shares(samples(SCRIPT))
    assert counts == {
        0: Counter({"copying": 1, REST: 1}),
        1: Counter({"Python": 1, "cutting 64 KB into packets": 1}),
    }
    table = to_markdown(counts)
    assert [line.split("|")[2].strip() for line in table.splitlines() if "copying" in line] == ["50.0"]
