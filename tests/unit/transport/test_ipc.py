"""What of CUDA IPC can be tried without a GPU: who opens whose memory, as which device, and that a CPU is refused."""

import pickle

import pytest
import torch

from agrl.errors import ConfigError, WeightSyncError
from agrl.transport.ipc import Handle, IpcReceiver, IpcSender, of_gpu
from agrl.transport.named import make_receiver, make_sender
from agrl.transport.parcel import Parcel

CPU = torch.device("cpu")
REBUILD = (torch.Tensor, torch.Size([64]), (1,), 0, torch.storage.TypedStorage, torch.uint8, 3, b"handle", 64, 0)


def test_a_cpu_is_refused_by_name():
    for make in (lambda: IpcSender(CPU, 64), lambda: IpcReceiver(CPU), lambda: make_sender("ipc", CPU)):
        with pytest.raises(ConfigError, match=r"sync.transport=ipc passes weights within a GPU, and cpu is none"):
            make()
    with pytest.raises(ConfigError, match="ipc"):
        make_receiver("ipc", CPU)


def test_a_handle_is_opened_as_the_device_that_the_receiver_has():
    handle = pickle.loads(pickle.dumps(Handle("GPU-a", REBUILD)))
    assert handle.on(0) == (*REBUILD[:6], 0, *REBUILD[7:])


def test_the_place_of_the_device_is_that_of_torch():
    """``rebuild_cuda_tensor`` is no public interface: a torch that has another one is seen here."""
    import inspect

    from torch.multiprocessing.reductions import rebuild_cuda_tensor

    names = list(inspect.signature(rebuild_cuda_tensor).parameters)
    assert names[6] == "storage_device" and names[1] == "tensor_size"


def test_an_engine_takes_the_parcel_of_the_rank_on_its_own_gpu():
    parcels = [Parcel(0, (), Handle(gpu, REBUILD)) for gpu in ("GPU-a", "GPU-b")]
    assert of_gpu(parcels, "GPU-b") is parcels[1]
    with pytest.raises(WeightSyncError, match=r"no learner rank shares GPU GPU-c .* they are on GPU-a, GPU-b"):
        of_gpu(parcels, "GPU-c")
