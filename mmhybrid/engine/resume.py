"""Go on as if nothing had happened."""

from typing import Literal

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook

from mmhybrid.engine.batches import EndlessBatches, TrainLoader, seed_generators
from mmhybrid.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed training see the images, and the chances, of an uninterrupted one.

    The batches of a checkpoint's past are left out without being loaded, in the midst of an epoch
    too, where mmengine would begin the epoch again. The random choices of each sample follow from
    the seed and the sample's number, those of the model from the seed, the iteration and the rank
    of the process. On a CPU the weights are then the same bit for bit.

    Not covered: transforms that keep state or a random generator of their own (mmdet's cached
    mosaic and mixup, Albumentations), and data sets without indices (``IterableDataset``).

    Args:
        broken: what becomes of a sample that cannot be loaded. 'stop' ends the training with its
            name; 'skip' says its name and takes the next sample in its place.
    """

    priority = 'VERY_HIGH'

    def __init__(self, broken: Literal['stop', 'skip'] = 'stop'):
        if broken not in ('stop', 'skip'):
            raise ValueError(f"broken={broken!r}: expected 'stop' or 'skip'")
        self.broken = broken
        self.past = None
        self.loader = None
        self.seed = 0

    def after_load_checkpoint(self, runner, checkpoint):
        if runner._resume:
            self.past = checkpoint.get('meta', {}).get('data_order')

    def before_train(self, runner):
        rank, _ = get_dist_info()
        different = runner._randomness_cfg.get('diff_rank_seed', False)
        self.seed = runner.seed - rank if different else runner.seed
        loop = runner.train_loop
        if loop.dataloader.batch_sampler is None:
            runner.logger.warning(
                f'{type(loop.dataloader.dataset).__name__} gives no batches by index: a training '
                'that is resumed sees other images than an uninterrupted one'
            )
            return
        _rewind(loop.dataloader, runner)
        self.loader = TrainLoader(
            loop.dataloader, self.seed, self.broken, report=runner.logger.warning
        )
        loop.dataloader = self.loader
        done = self._batches_done(runner)
        if hasattr(loop, 'dataloader_iterator'):  # it counts iterations
            # Before onedl-mmengine 0.10.12 the loop takes as many batches as were used before, to
            # forget them.
            forgets = not hasattr(loop, 'fast_forward_on_resume')
            loop.dataloader_iterator = EndlessBatches(
                self.loader, start=done, blanks=runner.iter if forgets else 0
            )
        else:
            self.loader.batch_sampler.skip = max(0, done - runner.epoch * len(self.loader))

    def before_train_epoch(self, runner):
        if self.loader is not None and not hasattr(runner.train_loop, 'dataloader_iterator'):
            self.loader.batch_sampler.round = runner.epoch

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        rank, _ = get_dist_info()
        seed_generators(self.seed, runner.iter, rank)

    def before_save_checkpoint(self, runner, checkpoint):
        if self.loader is not None:
            checkpoint['meta']['data_order'] = self._order()

    def _order(self) -> dict:
        return dict(
            batch_size=self.loader.batch_sampler.stride,
            processes=get_dist_info()[1],
            batches=len(self.loader),
        )

    def _batches_done(self, runner) -> int:
        """Count the batches, of this training's size, of the samples used before the checkpoint."""
        order = self._order()
        if runner.iter == 0 or self.past is None or self.past == order:
            return runner.iter
        runner.logger.warning(
            f'resumed with {_words(order)} after {_words(self.past)}: the images come in another '
            'order than without the interruption, beginning near the place where it happened'
        )
        used = runner.iter * self.past['batch_size'] * self.past['processes']
        return round(used / (order['batch_size'] * order['processes']))


def _words(order: dict) -> str:
    return (
        f'{order["processes"]} processes of batch size {order["batch_size"]} '
        f'({order["batches"]} batches)'
    )


def _rewind(loader, runner) -> None:
    """Return a sampler before anything was taken from it, with the seed of the checkpoint.

    mmengine builds it before it knows that seed, and before 0.10.12 takes the first batches from
    it before it knows where to begin.
    """
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    if not runner._randomness_cfg.get('diff_rank_seed', False) and hasattr(sampler, 'seed'):
        sampler.seed = runner.seed
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = sampler._indices_of_rank()
