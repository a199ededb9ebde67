"""The machines of a session in a line."""

from pathlib import Path

from study.stages import hardware


def test_nodes_of_a_kind_are_counted(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Some  CPU @ 2 GHz\n")
    monkeypatch.setattr(hardware, "cpu", lambda: "")
    small, large = {"CPU": 8.0, "memory": 1e9}, {"CPU": 16.0, "GPU": 1.0, "accelerator_type:H200": 1.0}
    nodes = [{"Resources": resources} for resources in (small, large, small, {"CPU": 1.0, "GPU": 2.0})]
    assert hardware.hardware(nodes) == "2 x 8 CPUs, 1 x 16 CPUs and 1 H200 GPU, 1 x 1 CPU and 2 GPUs"
    monkeypatch.undo()
    assert hardware.cpu(file) == "Some CPU @ 2 GHz" and hardware.cpu(tmp_path / "none") == ""
