"""eBPF by bpf(2) alone: reads compiled objects, loads and attaches their programs, reads and writes their maps.

Needs neither a compiler nor libbpf where it runs: objects are compiled beforehand (`python -m plait.host.bpf.build`).
`elf`, `btf` and `spec` are pure; the rest talks to the kernel.
"""
