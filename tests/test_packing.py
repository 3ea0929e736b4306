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
    assert packing.is_uniform == (len(set(lengths)) == 1)


@given(lengths_of_sequences, dtypes)
@example([0, 0], torch.int32)
@example([4, 4], torch.int64)
@example([0, 5, 0], torch.int32)
def test_padding_keeps_rows_and_fills_with_zeros(device, lengths, dtype):
    packing = pack(lengths, dtype, device)
    packed = torch.arange(1.0, 2 * sum(lengths) + 1, device=device).view(-1, 2)
    padded = packing.pad(packed)
    assert padded.shape == (len(lengths), max(lengths), 2)
    for sequence, rows in zip(padded, packed.split(lengths), strict=True):
        assert torch.equal(sequence[: len(rows)], rows)
        assert not sequence[len(rows) :].any()
    assert torch.equal(packing.unpad(padded), packed)


@given(lengths_of_sequences)
@example([0, 0])
@example([1])
@example([90, 10, 80, 20, 30, 40, 17, 16])
def test_buckets_hold_every_sequence_padded_to_the_longest_of_its_bucket(lengths):
    packing = pack(lengths)
    packed = torch.arange(1.0, 2 * sum(lengths) + 1).view(-1, 2)
    layout = packing.bucketed_layout
    padded = layout.pad(packed, packed + 1)
    assert layout.order.tolist() == sorted(range(len(lengths)), key=lambda sequence: lengths[sequence])
    ordered = iter(layout.order.tolist())
    for first, second in padded:
        assert torch.equal(second[first != 0], first[first != 0] + 1)
        inside = [next(ordered) for _ in range(len(first))]
        assert first.shape[1] == max(lengths[sequence] for sequence in inside)
        assert first.shape[1] <= 16 or first.shape[1] < 4 / 3 * min(lengths[sequence] for sequence in inside)
        for sequence, rows in zip(inside, first, strict=True):
            assert torch.equal(rows[: lengths[sequence]], packed.split(lengths)[sequence])
            assert not rows[lengths[sequence] :].any()
    assert torch.equal(layout.unpad([first for first, _ in padded]), packed)


def test_equal_lengths_are_padded_without_a_copy():
    packed = torch.zeros(6, 2)
    packing = Packing.uniform(3, 2)
    assert packing.pad(packed).data_ptr() == packed.data_ptr()
    assert packing.unpad(packing.pad(packed)).data_ptr() == packed.data_ptr()


@pytest.mark.parametrize("lengths", [[2, 2], [3, 0, 1]], ids=str)
def test_gradients_by_finite_differences(lengths, device):
    packing = pack(lengths, device=device)
    chosen = RowSelection.from_rows(torch.tensor([0, 3], device=device), packing)
    packed = torch.rand(sum(lengths), 2, dtype=torch.float64, device=device, requires_grad=True)
    padded = torch.rand(len(lengths), max(lengths), 2, dtype=torch.float64, device=device, requires_grad=True)
    for function, operand in ((packing.pad, packed), (packing.unpad, padded), (chosen.take, packed)):
        assert torch.autograd.gradcheck(function, operand)
        assert torch.autograd.gradgradcheck(function, operand)


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
    chosen = RowSelection.from_rows(torch.tensor(rows, dtype=torch.int64, device=device), packing)

    starts = packing.cu_seqlens.tolist()
    places = [[row - starts[i] for row in rows if starts[i] <= row < starts[i + 1]] for i in range(len(lengths))]
    assert len(chosen) == len(rows)
    assert chosen.packing.cu_seqlens.diff().tolist() == [len(here) for here in places]
    assert chosen.packing.longest == max(map(len, places))
    for here, last_keys in zip(places, chosen.last_keys[0].expand(len(lengths), -1).tolist(), strict=True):
        assert last_keys[: len(here)] == here

    packed = torch.arange(2 * sum(lengths), device=device).view(-1, 2)
    assert torch.equal(chosen.take(packed), packed[rows])


def test_a_known_number_of_chosen_rows_changes_nothing():
    packing, rows = pack([3, 4]), torch.tensor([1, 2, 6])
    read, told = RowSelection.from_rows(rows, packing), RowSelection.from_rows(rows, packing, most=2)
    assert read.packing.shape == told.packing.shape
    assert torch.equal(read.last_keys[0], told.last_keys[0])


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
