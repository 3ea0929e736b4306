"""The search for faster tiles: which it tries, that each launch has its tile, and which it would take."""

import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def search(monkeypatch):
    """The benchmark, for a batch of one short row, with launches that do nothing."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # which the benchmark would set for good
    search = importlib.import_module("benchmarks.tiles")
    monkeypatch.setattr(search, "TOKENS", 1)
    monkeypatch.setattr(search, "LONG", 300)
    monkeypatch.setattr(search.launch, "launch", lambda kernel, programs, **arguments: None)
    return search


def test_every_kernel_and_width_is_tried_beginning_with_the_tile_of_the_table(search):
    rows = list(search.rows())
    assert len({row.name for row in rows}) == len(rows)
    assert {row.kernel for row in rows} == set(search.BLOCKS)
    assert {row.width for row in rows} == {16, 32, 64, 128}
    for row in rows:
        tried = search.candidates(row, quick=False)
        assert tried[0] == search.chosen_tile(row)
        assert len(set(tried)) == len(tried) > 8
        assert set(search.candidates(row, quick=True)) <= set(tried) | {tried[0]}
        for tile in tried:
            assert row.kernel != "diagonal" or tile.block_m == tile.block_n
            assert row.kernel != "short_backward" or tile.block_n % tile.block_m == 0
            assert search.attention.ALIGNED.value % tile.block_m == 0


def test_a_launch_has_its_tile_and_the_others_theirs(search):
    for row in search.rows():
        if row.width == 16:
            tile = search.tiles.Tile(32, 32, 2, 1)
            kernel, programs, arguments = search.launch_of(row, tile, "cpu")
            assert kernel.__name__ == f"{row.kernel}_kernel"
            assert programs > 0
            shape = arguments["SHAPE"]
            assert (shape.BLOCK_M.value, shape.BLOCK_N.value, arguments["num_warps"]) == (32, 32, 2)
            assert (arguments["terms"].table is not None) == (row.kind == "with a bias")
    assert search.chosen_tile(row) != tile


def test_the_fastest_tile_that_compiles_and_agrees_is_taken_if_it_gains_enough(search):
    def line(tile, ms, difference=0.0, error=None):
        return {"tile": tile, "ms": ms, "difference": difference, "error": error}

    table = line("table", 1.0)
    assert search.best([table, line("a", 0.5), line("b", 0.8)])["fastest"] == "a"
    assert search.best([table, line("a", 0.5)])["gain"] == 2.0
    assert search.best([table, line("wrong", 0.5, difference=0.5), line("b", 0.8)])["fastest"] == "b"
    assert search.best([table, line("broken", 0.5, error="spills"), line("b", 0.8)])["fastest"] == "b"
    assert search.best([table, line("a", 0.995)])["fastest"] == "table"
    assert search.best([line("table", 1.0, error="no"), line("a", 0.5)])["gain"] is None


def test_results_that_are_no_number_differ(search):
    ones = {"p_out": torch.ones(2, 3)}
    assert search.difference(ones, ones) == 0
    assert search.difference({"p_out": torch.tensor([1.0, 1.5])}, {"p_out": torch.tensor([1.0, 2.0])}) == 0.25
    with pytest.raises(ValueError, match="p_out differs by nan"):
        search.difference({"p_out": torch.full((2, 3), float("nan"))}, ones)


def test_the_gradient_of_a_table_is_compared_for_tiles_of_any_size(search):
    row = next(row for row in search.rows() if row.kernel == "diagonal" and row.width == 16)
    found = []
    for block in (32, 64):
        _, _, arguments = search.launch_of(row, search.tiles.Tile(block, block, 4, 1), "cpu")
        partial = arguments["p_partial"].zero_()
        for distance in range(200):  # once where the lower diagonals are, and again where the upper are
            partial[0, 0, 0, distance] = partial[0, -1, 1, distance + block] = distance
        found.append(search._written(row, arguments))
    assert found[0]["grad_table"][0].tolist() == [2 * distance for distance in range(200)] + [0] * (row.length - 200)
    assert search.difference(*found) == 0


def test_a_row_is_measured_tile_by_tile(search, monkeypatch):
    row = next(row for row in search.rows() if row.kernel == "forward" and row.width == 16)
    tiles = search.candidates(row, quick=True)
    times = iter(range(len(tiles), 0, -1))

    def fill(kernel, programs, **arguments):
        for name in ("p_out", "p_lse"):
            arguments[name].fill_(1)

    monkeypatch.setattr(search.launch, "launch", fill)
    errors = dict.fromkeys(tiles) | {tiles[1]: "does not compile"}
    result = search.measure_row(row, errors, lambda work: work() or next(times), "cpu")
    assert [line["tile"] for line in result["tiles"]] == [list(tile) for tile in tiles]
    assert result["tiles"][1]["error"] == "does not compile"
    assert result["fastest"] == list(tiles[-1])
    assert result["gain"] == len(tiles) / 2
