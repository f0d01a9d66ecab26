#!/usr/bin/env python3
"""Compute a network's test vectors again, from docs/arithmetic.md alone: stranger.py DIR.

It imports nothing of randhet. Images, weights, thresholds, biases and tables are read from DIR; start states, draws,
sums, membrane potentials and outputs are computed and compared with the files. Exit status 1 where one differs.
"""

import json
import sys
from pathlib import Path

import numpy as np

WORD, TOP = 2**64, 2**23 - 1


def mix(v):
    z = (v + 0x9E3779B97F4A7C15) % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def draw(state):
    for _ in range(8):
        state = (state >> 1) ^ (0x80200003 if state & 1 else 0)
    return state, state & 0xFF


def sat24(value):
    return np.clip(value, -TOP, TOP)


def convolve(s, w, stride, padding, dilation, groups):
    out, per_group, rows, columns = w.shape
    s = np.pad(s, ((0, 0), (padding[0],) * 2, (padding[1],) * 2))
    down, across = ((s.shape[1 + a] - dilation[a] * (w.shape[2 + a] - 1) - 1) // stride[a] + 1 for a in (0, 1))
    a = np.zeros((out, down, across), np.int64)
    for o, y, x in np.ndindex(a.shape):
        first = o // (out // groups) * per_group
        for i, j in np.ndindex(rows, columns):
            seen = s[first : first + per_group, y * stride[0] + i * dilation[0], x * stride[1] + j * dilation[1]]
            a[o, y, x] += (w[o, :, i, j] * seen).sum()
    return a


def wrap(value):
    return np.where(value > 2**23, value - 2**24, np.where(value <= -(2**23), value + 2**24, value))


def keep(value, parts):
    return np.sign(value) * (np.abs(value) * parts >> 12)


def max_pool(s, kernel, stride, padding):
    s = np.pad(s, ((0, 0), (padding[0],) * 2, (padding[1],) * 2), constant_values=-(2**40))
    down, across = ((s.shape[1 + a] - kernel[a]) // stride[a] + 1 for a in (0, 1))
    window = lambda y, x: s[:, y * stride[0] : y * stride[0] + kernel[0], x * stride[1] : x * stride[1] + kernel[1]]
    return np.array([[window(y, x).max((1, 2)) for x in range(across)] for y in range(down)]).transpose(2, 0, 1)


def spread(s, stride, extra):
    channels, rows, columns = s.shape
    out = np.zeros((channels, (rows - 1) * stride[0] + 1 + extra[0], (columns - 1) * stride[1] + 1 + extra[1]), int)
    for y, x in np.ndindex(rows, columns):
        out[:, y * stride[0], x * stride[1]] = s[:, y, x]
    return out


def pool(s, kernel, stride):
    down, across = ((s.shape[1 + a] - kernel[a]) // stride[a] + 1 for a in (0, 1))
    window = lambda y, x: s[:, y * stride[0] : y * stride[0] + kernel[0], x * stride[1] : x * stride[1] + kernel[1]]
    sums = [[window(y, x).sum((1, 2)) for x in range(across)] for y in range(down)]
    return np.array(sums).transpose(2, 0, 1)


class Vectors:
    def __init__(self, folder):
        self.folder, self.differences = Path(folder), 0
        self.about = json.loads((self.folder / "manifest.json").read_text())

    def load(self, i, name):
        return np.load(self.folder / f"layer{i}" / f"{name}.npy").astype(np.int64)

    def compare(self, i, name, values, *at):
        self.differences += int((self.load(i, name)[at] != values).sum())

    def registers(self, i, layer):
        """Start states of the layer's cores, and how many neurons each has."""
        size, most = int(np.prod(layer["shape"])), layer["neuron"]["neurons_per_core"]
        cores = [min(most, size - start) for start in range(0, size, most)]
        outer = mix(mix(self.about["seed"]) ^ i)
        return [mix(outer ^ core) % 2**32 or 1 for core in range(len(cores))], cores

    def operate(self, i, layer, read, sent_before):
        kind, geometry = layer["operation"], layer["geometry"]
        if kind == "Conv":
            return convolve(read[0], self.load(i, "weight"), **geometry)
        if kind == "Dense":
            a = self.load(i, "weight") @ read[0].ravel()
            own = (self.folder / f"layer{i}" / "recurrent.npy").exists()
            return a + self.load(i, "recurrent") @ sent_before if own and sent_before is not None else a
        if kind in ("SumPool", "MaxPool", "Spread"):
            return {"SumPool": pool, "MaxPool": max_pool, "Spread": spread}[kind](read[0], **geometry)
        return {
            "Add": lambda: sum(read), "Flatten": lambda: read[0].ravel(), "Input": lambda: read[0],
            "And": lambda: np.minimum(*read), "Iand": lambda: (1 - read[0]) * read[1],
            "Concat": lambda: np.concatenate(read),
        }[kind]()  # fmt: skip

    def decays(self, i, layer, states, cores, t):
        """A of every neuron; per image, the draws of the first step are kept."""
        neuron = layer["neuron"]
        if neuron["decay"] != "Drawn":
            return self.load(i, "mantissa") if neuron["decay"] == "PerNeuron" else neuron["mantissa"]
        if t == 0 or neuron["sampling"] == "step":
            values = []
            for core, count in enumerate(cores):
                for _ in range(count):
                    states[core], value = draw(states[core])
                    values.append(value)
            self.kept[i] = np.array(values).reshape(layer["shape"])
        return self.load(i, "table")[self.kept[i]]

    def neuron(self, i, layer, a, m, at, decay):
        neuron, wide = layer["neuron"], (-1, *[1] * (a.ndim - 1))
        b = self.load(i, "bias")
        b = b if b.shape == a.shape else b.reshape(wide)
        self.compare(i, "sums", a, *at)
        if neuron["kind"] == "ReadOut":
            self.compare(i, "before", m + a + b, *at)
            return m + a + b, a + b
        before, kept = self.potential(i, neuron, a, b, m, decay, wide)
        self.compare(i, "before", before, *at)
        if neuron["kind"] == "Leaky":
            return kept(before), before
        theta = self.load(i, "threshold").reshape(wide)
        s = (before > theta).astype(np.int64)
        lowered = before - theta if neuron.get("reset") == "subtract" else 0
        after = before if neuron.get("reset_delay") else np.where(s, lowered, before)
        self.compare(i, "after", after, *at)
        return kept(after), s

    def potential(self, i, neuron, a, b, m, decay, wide):
        """m that is compared with the threshold, and a function from what is kept of it to the state."""
        if "Cuba" in (neuron["kind"], neuron.get("dynamics")):
            u, v = (0, 0) if isinstance(m, int) else m
            u = wrap(keep(u, 4095 - neuron["current_decay"]) + (a << neuron["f"]))
            return sat24(keep(v, 4096 - neuron["voltage_decay"]) + u + b), lambda v: (u, v)
        x = sat24((a << neuron["f"]) + b)
        before, theta = x + ((decay * (m - x)) >> neuron["k"]), self.load(i, "threshold").reshape(wide)
        if neuron["reset_delay"]:
            late = sat24(before - theta) if neuron["reset"] == "subtract" else 0
            before = np.where(m > theta, late, before)
        floor = self.load(i, "floor")
        return np.maximum(before, floor.reshape(wide) if floor.ndim else floor), lambda m: m

    def read(self, total, sent):
        """What is read of an image after one more step."""
        how = (self.about["layers"][-1]["neuron"] or {}).get("read", "sum")
        if total is None or how == "last":
            return sent
        return np.maximum(total, sent) if how == "max" else total + sent

    def run(self):
        images, layers = np.load(self.folder / "images.npy").astype(np.int64), self.about["layers"]
        drawing = {
            i: self.registers(i, it) for i, it in enumerate(layers) if (it["neuron"] or {}).get("decay") == "Drawn"
        }
        self.kept, totals = {}, []
        for i, (states, _) in drawing.items():
            self.compare(i, "registers", np.array(states))
        for n, image in enumerate(images):
            m, total, sent = {}, None, [None] * len(layers)
            for t in range(self.about["steps"]):
                before, sent = sent, []
                frame = image[t] if layers[0]["geometry"]["sequence"] else image
                for i, layer in enumerate(layers):
                    value = self.operate(i, layer, [sent[j] for j in layer["inputs"]] or [frame], before[i])
                    if layer["neuron"]:
                        lif = "decay" in layer["neuron"]
                        decay = self.decays(i, layer, *drawing.get(i, ([], [])), t) if lif else 0
                        if i in drawing:
                            self.compare(i, "draws", self.kept[i], n, t)
                        m[i], value = self.neuron(i, layer, value, m.get(i, 0), (n, t), decay)
                    self.compare(i, "output", value, n, t)
                    sent.append(value)
                total = self.read(total, sent[-1].ravel())
            totals.append(total)
        self.differences += int((np.array(totals) != np.load(self.folder / "sums.npy")).sum())
        return self.differences


if __name__ == "__main__":
    found = Vectors(sys.argv[1]).run()
    print(f"{found} integers differ")
    sys.exit(found > 0)
