"""Order and augmentation follow the epoch alone, with worker processes or without."""

import torch
from torch.utils.data import DataLoader, Dataset

from darts_hpo.training.task import EpochSampler, SampleKey


class Keys(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, key: SampleKey) -> torch.Tensor:
        return torch.tensor(key)


def keys_of(sampler: EpochSampler) -> list[SampleKey]:
    return list(sampler)


def test_an_epoch_has_its_own_order_whatever_came_before():
    fresh, used = EpochSampler(6, seed=1), EpochSampler(6, seed=1)
    for epoch in range(3):
        used.set_epoch(epoch)
        keys_of(used)
    fresh.set_epoch(3)
    used.set_epoch(3)
    assert keys_of(fresh) == keys_of(used)
    assert keys_of(EpochSampler(6, seed=2)) != keys_of(EpochSampler(6, seed=1))


def test_a_second_pass_within_an_epoch_differs_and_is_told():
    sampler = EpochSampler(6, seed=0)
    first, second = keys_of(sampler), keys_of(sampler)
    assert {key[2] for key in first} == {0}
    assert {key[2] for key in second} == {1}
    sampler.set_epoch(0)  # the same epoch again: its passes are not forgotten
    assert {key[2] for key in keys_of(sampler)} == {2}
    sampler.set_epoch(1)
    assert {key[1:] for key in keys_of(sampler)} == {(1, 0)}


def test_worker_processes_that_read_ahead_see_the_epoch_set_before():
    batches = {}
    for workers in (0, 1):
        sampler = EpochSampler(6, seed=0)
        loader = DataLoader(Keys(), batch_size=3, sampler=sampler, num_workers=workers)
        sampler.set_epoch(5)  # as train_dataloader() does on resume
        iterator = iter(loader)
        sampler.set_epoch(5)  # as Lightning does after it has made the iterator
        batches[workers] = torch.cat(list(iterator)).tolist()
    assert batches[0] == batches[1]
    assert {key[1] for key in map(tuple, batches[0])} == {5}


def test_without_shuffling_the_order_is_natural():
    assert [key[0] for key in EpochSampler(4, seed=0, shuffle=False)] == [0, 1, 2, 3]
