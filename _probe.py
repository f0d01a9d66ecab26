import torch, torch.nn as nn, snntorch as snn, torch.nn.functional as F
from snntorch import surrogate
from randhet.export.readers.read import read
num_steps=25; beta=.95
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 100)
        self.lif1 = snn.Leaky(beta=beta)
        self.fc2 = nn.Linear(100, 10)
        self.lif2 = snn.Leaky(beta=beta)
    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec = []; mem2_rec = []
        for step in range(num_steps):
            cur1 = self.fc1(x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)
m=read(Net(),(1,28,28)); print(m); print(m.code)
sg=surrogate.fast_sigmoid(slope=25)
net = nn.Sequential(nn.Conv2d(1, 12, 5), nn.MaxPool2d(2), snn.Leaky(beta=.5, spike_grad=sg, init_hidden=True),
  nn.Conv2d(12, 64, 5), nn.MaxPool2d(2), snn.Leaky(beta=.5, spike_grad=sg, init_hidden=True), nn.Flatten(), nn.Linear(64*4*4, 10),
  snn.Leaky(beta=.5, spike_grad=sg, init_hidden=True, output=True))
m=read(net,(1,28,28),10); print(m.code)
batch_size=128
class CNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 5); self.lif1 = snn.Leaky(beta=.5, spike_grad=sg)
        self.conv2 = nn.Conv2d(12, 64, 5); self.lif2 = snn.Leaky(beta=.5, spike_grad=sg)
        self.fc1 = nn.Linear(64*4*4, 10); self.lif3 = snn.Leaky(beta=.5, spike_grad=sg)
    def forward(self, x):
        mem1 = self.lif1.init_leaky(); mem2 = self.lif2.init_leaky(); mem3 = self.lif3.init_leaky()
        cur1 = F.max_pool2d(self.conv1(x), 2)
        spk1, mem1 = self.lif1(cur1, mem1)
        cur2 = F.max_pool2d(self.conv2(spk1), 2)
        spk2, mem2 = self.lif2(cur2, mem2)
        cur3 = self.fc1(spk2.view(batch_size, -1))
        spk3, mem3 = self.lif3(cur3, mem3)
        return spk3, mem3
try: print(read(CNet(),(1,28,28),1).code)
except Exception as e: print(type(e),e)
