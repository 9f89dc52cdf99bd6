import os

import torch
from hypothesis import Phase, settings

# The models of the tests are so small that a second thread would cost more than it brings.
torch.set_num_threads(1)

# The same examples every time, and few; HYPOTHESIS_PROFILE=thorough draws new ones for an hour.
settings.register_profile(
    'default',
    max_examples=5,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
)
settings.register_profile('thorough', max_examples=300, deadline=None, print_blob=True)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'default'))
