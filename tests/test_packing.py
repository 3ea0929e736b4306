"""``Packing`` and ``RowSelection``: where packed rows belong, told by loops over Python lists."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lengen_fast.ops import Packing
from lengen_fast.ops.packing import RowSelection

lengths_of_sequences = st.lists(st.integers(0, 6), min_size=1, max_size=6)
dtypes = st.sampled_from([torch.int32, torch.int64])


def pack(lengths, dtype=torch.int64, device=None):
    bounds = torch.tensor([0, *lengths], device=device).cumsum(0).to(dtype)
    return Packing.from_cu_seqlens(bounds, sum(lengths))


@given(lengths_of_sequences, dtypes)
@example([0], torch.int32)
@example([1], torch.int32)
@example([3, 3], torch.int32)
def test_every_row_knows_its_sequence_and_its_place(device, lengths, dtype):
    packing = pack(lengths, dtype, device)
    rows = [(sequence, place) for sequence, length in enumerate(lengths) for place in range(length)]
    assert packing.shape == (len(lengths), sum(lengths), max(lengths))
    assert packing.sequence_of_row.tolist() == [sequence for sequence, _ in rows]
    assert packing.position_in_sequence.tolist() == [place for _, place in rows]


@pytest.mark.parametrize("lengths", [[2, 2], [3, 0, 1]], ids=str)
def test_gradients_by_finite_differences(lengths, device):
    packing = pack(lengths, device=device)
    chosen = RowSelection.from_rows(torch.tensor([0, 3], device=device), packing)
    packed = torch.rand(sum(lengths), 2, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(chosen.take, packed)
    assert torch.autograd.gradgradcheck(chosen.take, packed)


@pytest.mark.parametrize(("sequences", "length"), [(1, 0), (1, 1), (3, 4), (4, 0)])
def test_uniform_is_equal_lengths(sequences, length):
    packing, same = Packing.uniform(sequences, length), pack([length] * sequences)
    assert torch.equal(packing.cu_seqlens, same.cu_seqlens)
    assert packing.shape == same.shape


def test_rows_without_bounds_are_one_sequence():
    assert Packing.of(torch.zeros(5, 2), None).cu_seqlens.tolist() == [0, 5]


@given(st.data())
def test_chosen_rows_belong_to_the_same_sequences(device, data):
    lengths = data.draw(lengths_of_sequences)
    rows = sorted(data.draw(st.sets(st.integers(0, sum(lengths) - 1)))) if sum(lengths) else []
    packing = pack(lengths, data.draw(dtypes), device)
    chosen = RowSelection.from_rows(torch.tensor(rows, dtype=data.draw(dtypes), device=device), packing)

    starts = packing.cu_seqlens.tolist()
    counts = [sum(starts[i] <= row < starts[i + 1] for row in rows) for i in range(len(lengths))]
    assert len(chosen) == len(rows)
    assert chosen.packing.cu_seqlens.diff().tolist() == counts
    assert chosen.packing.longest == max(counts)

    packed = torch.arange(2 * sum(lengths), device=device).view(-1, 2)
    assert torch.equal(chosen.take(packed), packed[rows])


def test_a_known_number_of_chosen_rows_changes_nothing():
    packing, rows = pack([3, 4]), torch.tensor([1, 2, 6])
    read, told = RowSelection.from_rows(rows, packing), RowSelection.from_rows(rows, packing, most=2)
    assert read.packing.shape == told.packing.shape


def test_selection_of_other_rows_is_refused():
    packing = pack([3, 4])
    chosen = RowSelection.from_rows(torch.tensor([1]), packing)
    assert RowSelection.of(packing, chosen) is chosen
    for other in (pack([3, 3]), pack([7]), pack([2, 5])):
        with pytest.raises(ValueError, match="query_rows were chosen from other packed rows"):
            RowSelection.of(other, chosen)


def test_packing_of_other_rows_is_refused():
    with pytest.raises(ValueError, match="cu_seqlens packs 7 rows and is given with 6"):
        Packing.of(torch.zeros(6, 2), pack([3, 4]))
