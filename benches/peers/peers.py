"""One framework of peers_bench: plain, lightning or ignite (the argument). Each line of stdin is a network and a number of
steps; answers with the seconds of one step, or with "absent". All keep the losses and write them to a file every 20 steps."""

import itertools
import json
import logging
import os
import sys
import tempfile
import time
import warnings

import torch
from torch import nn

torch.set_num_threads(1)
warnings.filterwarnings("ignore")
PERIOD = 20


def mlp():
    x = torch.randn(32, 16)
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)), nn.functional.mse_loss, (x, x.sum(1, True))


def cnn():
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )
    return net, nn.functional.cross_entropy, (torch.rand(32, 1, 28, 28), torch.randint(0, 10, (32,)))


def sgd(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


class Plain:
    def __init__(self, network, folder):
        self.net, self.criterion, self.batch = network()
        self.optimizer, self.schedule = sgd(self.net)
        self.file = open(os.path.join(folder, "plain.json"), "a")

    def run(self, steps):
        x, y = self.batch
        losses = []
        start = time.perf_counter()
        for step in range(steps):
            self.optimizer.zero_grad()
            loss = self.criterion(self.net(x), y)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            losses.append(loss.item())
            if step % PERIOD == PERIOD - 1:
                self.file.write(json.dumps({"iteration": step, "loss": losses[-1]}) + "\n")
                self.file.flush()
        return (time.perf_counter() - start) / steps


def make_lightning():
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self, network):
            super().__init__()
            self.net, self.criterion, self.batch = network()

        def training_step(self, batch, index):
            loss = self.criterion(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            optimizer, schedule = sgd(self.net)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    class Repeated:
        def __init__(self, batch, steps):
            self.batch, self.steps = batch, steps

        def __len__(self):
            return self.steps

        def __iter__(self):
            return itertools.repeat(self.batch, self.steps)

    class Clock(lightning.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            if index == 0:
                self.start = time.perf_counter()

        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            self.end = time.perf_counter()

    class Lightning:
        def __init__(self, network, folder):
            self.module, self.folder = Module(network), folder

        def run(self, steps):
            clock = Clock()
            trainer = lightning.Trainer(
                accelerator="cpu", devices=1, max_steps=steps, callbacks=[clock], enable_progress_bar=False,
                enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=PERIOD,
                logger=lightning.pytorch.loggers.CSVLogger(self.folder),
            )
            trainer.fit(self.module, train_dataloaders=Repeated(self.module.batch, steps))
            return (clock.end - clock.start) / steps

    return Lightning


def make_ignite():
    from ignite.engine import Engine, Events

    class Ignite:
        def __init__(self, network, folder):
            self.net, self.criterion, self.batch = network()
            self.optimizer, self.schedule = sgd(self.net)
            self.file = open(os.path.join(folder, "ignite.json"), "a")
            self.engine = Engine(self.step)
            self.engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: self.schedule.step())
            self.engine.add_event_handler(Events.ITERATION_COMPLETED(every=PERIOD), self.write)

        def step(self, engine, batch):
            self.optimizer.zero_grad()
            loss = self.criterion(self.net(batch[0]), batch[1])
            loss.backward()
            self.optimizer.step()
            return loss.item()

        def write(self, engine):
            self.file.write(json.dumps({"iteration": engine.state.iteration, "loss": engine.state.output}) + "\n")
            self.file.flush()

        def run(self, steps):
            batches = [self.batch] * steps
            start = time.perf_counter()
            self.engine.run(batches, max_epochs=1)
            return (time.perf_counter() - start) / steps

    return Ignite


answers = os.fdopen(os.dup(1), "w")  # what the frameworks print does not come between
os.dup2(2, 1)
try:
    Framework = {"plain": lambda: Plain, "lightning": make_lightning, "ignite": make_ignite}[sys.argv[1]]()
except ImportError:
    Framework = None
with tempfile.TemporaryDirectory() as folder:
    made = {}
    for line in sys.stdin:
        name, steps = line.split()
        if Framework is None:
            print("absent", file=answers, flush=True)
            continue
        if name not in made:
            made[name] = Framework({"mlp": mlp, "cnn": cnn}[name], folder)
        print(made[name].run(int(steps)), file=answers, flush=True)
