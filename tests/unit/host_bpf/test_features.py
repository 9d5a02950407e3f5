"""How the lack of eBPF is told."""

from plait.host.bpf.features import KernelFeatures


def features(*, bpf: bool, tcx: bool, reasons: dict[str, str]) -> KernelFeatures:
    return KernelFeatures(bpf, tcx, bpf, bpf, bpf, bpf, bpf, reasons=reasons)


def test_each_lack_has_its_sentence() -> None:
    assert features(bpf=True, tcx=True, reasons={}).lacks() == []
    assert features(bpf=True, tcx=False, reasons={"tcx": "no tcx"}).lacks() == ["no tcx"]


def test_without_ebpf_the_rest_is_not_told() -> None:
    reasons = {"bpf": "no rights", "tcx": "no rights", "loop": "no rights"}
    assert features(bpf=False, tcx=False, reasons=reasons).lacks() == ["no rights"]
