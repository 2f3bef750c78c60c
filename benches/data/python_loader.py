"""The other side of data_bench: torch.utils.data.DataLoader. Reads one case a line, "NAME BATCHES ARGUMENT…", and answers with
seconds, or with "absent" when the case needs a package that is not installed."""

import glob
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.set_num_threads(1)

try:
    from PIL import Image
except ImportError:
    Image = None


def one_thread(_):
    torch.set_num_threads(1)


class Photos(Dataset):
    mean = torch.tensor([123.7, 116.3, 103.5]).view(3, 1, 1)
    std = torch.tensor([58.4, 57.1, 57.4]).view(3, 1, 1)

    def __init__(self, folder, repeats):
        self.files = sorted(glob.glob(folder + "/*/*.jpg")) * repeats

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        image = Image.open(self.files[index]).convert("RGB")
        width, height = image.size
        scale = 256 / min(width, height)
        image = image.resize((int(width * scale + 0.5), int(height * scale + 0.5)), Image.BILINEAR)
        left = int(torch.randint(0, image.size[0] - 224 + 1, (1,)))
        top = int(torch.randint(0, image.size[1] - 224 + 1, (1,)))
        image = image.crop((left, top, left + 224, top + 224))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(224, 224, 3).permute(2, 0, 1)
        return pixels.float().sub_(self.mean).div_(self.std), index


loaders = {}


def loader_of(name, batches, arguments):
    if name == "small":
        dataset = TensorDataset(torch.rand(32 * batches, 3, 8, 8), torch.arange(32 * batches))
        workers = int(arguments[0])
    elif name == "large":
        rows = torch.rand(64, 3, 224, 224)
        dataset = Rows(rows, 32 * batches)
        workers = 1
    else:
        dataset = Photos(arguments[0], int(arguments[2]))
        workers = int(arguments[1])
    return DataLoader(
        dataset, batch_size=32, num_workers=workers, persistent_workers=workers > 0, worker_init_fn=one_thread, drop_last=True
    )


class Rows(Dataset):
    def __init__(self, rows, size):
        self.rows, self.size = rows, size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.rows[index % len(self.rows)], index


for line in sys.stdin:
    name, batches, *arguments = line.split()
    if name == "photos" and Image is None:
        print("absent", flush=True)
        continue
    if line not in loaders:
        loaders[line] = loader_of(name, int(batches), arguments)
        for _ in loaders[line]:
            pass
    # The workers begin a pass with the call of iter: the first batch is waited for and not counted.
    walk = iter(loaders[line])
    next(walk)
    count = 0
    start = time.perf_counter()
    for _ in walk:
        count += 1
    print((time.perf_counter() - start) / count, flush=True)
