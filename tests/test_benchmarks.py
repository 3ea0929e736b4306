"""What of the benchmarks is not time: loops of machine code, and the longest strings of compiled programs."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = """
	.section	.text.kernel
.L_x_0:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   FFMA R2, R3, R4, R2 ;
        /*0020*/              @!P0 MUFU.EX2 R5, R5 ;
        /*0030*/               @P1 BRA `(.L_x_1) ;
        /*0040*/                   BRA `(.L_x_2) ;
.L_x_2:
        /*0050*/                   EXIT ;
.L_x_3:
        /*0060*/                   BRA `(.L_x_3);
"""


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """A function that imports one of them."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # which some would set for good
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def test_loops_are_what_lies_between_a_label_and_a_jump_back(benchmark):
    assert benchmark("instructions").loops(CODE) == [3, 1]


def test_the_longest_strings_are_kept_one_by_one_from_the_smallest_model_on(benchmark, monkeypatch, tmp_path):
    compiler, kept = benchmark("compiler"), []
    monkeypatch.setattr(compiler, "RUNS", tmp_path)
    monkeypatch.setattr(compiler, "ONE_STRING", 64)
    results = benchmark("million").measure(lambda results: kept.append(len(results["programs"])), "cpu", 64, 600)
    lines = results["programs"]
    assert kept == list(range(1, len(lines) + 1))
    assert len(lines) == 26
    assert {line["exact"] for line in lines} == {"1 of 1"}
    assert {line["adversarial"] for line in lines} == {0}
    assert lines[0]["layers"] == 1
    assert lines[-1]["program"] == "majority"
    assert results["failed"] == results["not_reached"] == []


def test_a_program_that_fails_does_not_end_the_others(benchmark, monkeypatch, tmp_path):
    compiler = benchmark("compiler")

    def kept(task, tokens, count, device):
        if task.name != "tomita_1":
            raise RuntimeError("out of memory")
        return {"program": task.name}

    monkeypatch.setattr(compiler, "kept", kept)
    results = benchmark("million").measure(lambda results: None, "cpu", 64, 600)
    assert results["programs"] == [{"program": "tomita_1"}]
    assert len(results["failed"]) == 25
    assert results["failed"][0]["error"] == "RuntimeError: out of memory"


def test_programs_for_which_no_time_is_left_are_named(benchmark, tmp_path):
    results = benchmark("million").measure(lambda results: None, "cpu", 64, -1)
    assert results["programs"] == []
    assert len(results["not_reached"]) == 26
