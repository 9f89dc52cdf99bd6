import torch

# The models of the tests are so small that a second thread would cost more than it brings.
torch.set_num_threads(1)
