"""Go on as if nothing had happened."""

from typing import Any, Literal

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

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
        self.past: dict | None = None
        self.loader: TrainLoader | None = None
        self.seed = 0

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            self.past = checkpoint.get('meta', {}).get('data_order')

    def before_train(self, runner: Runner) -> None:
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
        loader = TrainLoader(loop.dataloader, self.seed, self.broken, report=runner.logger.warning)
        self.loader = loop.dataloader = loader
        done = self._batches_done(runner, loader)
        if hasattr(loop, 'dataloader_iterator'):  # it counts iterations
            # Before onedl-mmengine 0.10.12 the loop takes as many batches as were used before, to
            # forget them.
            forgets = not hasattr(loop, 'fast_forward_on_resume')
            loop.dataloader_iterator = EndlessBatches(
                loader, start=done, blanks=runner.iter if forgets else 0
            )
        else:
            loader.batch_sampler.skip = max(0, done - runner.epoch * len(loader))

    def before_train_epoch(self, runner: Runner) -> None:
        if self.loader is not None and not hasattr(runner.train_loop, 'dataloader_iterator'):
            self.loader.batch_sampler.round = runner.epoch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        rank, _ = get_dist_info()
        seed_generators(self.seed, runner.iter, rank)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self.loader is not None:
            checkpoint['meta']['data_order'] = _order(self.loader)

    def _batches_done(self, runner: Runner, loader: TrainLoader) -> int:
        """Count the batches, of this training's size, of the samples used before the checkpoint."""
        order = _order(loader)
        if runner.iter == 0 or self.past is None or self.past == order:
            return runner.iter
        runner.logger.warning(
            f'resumed with {_words(order)} after {_words(self.past)}: the images come in another '
            'order than without the interruption, beginning near the place where it happened'
        )
        used = runner.iter * self.past['batch_size'] * self.past['processes']
        return round(used / (order['batch_size'] * order['processes']))


class LastEvaluationHook(Hook):
    """Evaluates a training that is resumed after its last step, where nothing is left to train.

    A checkpoint is saved before the evaluation, so the one after the last step may be missing.
    """

    priority = 'LOWEST'  # the other hooks have begun

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            done, last = loop.epoch, loop.max_epochs
        elif isinstance(loop, IterBasedTrainLoop):
            done, last = loop.iter, loop.max_iters
        else:
            return
        if done >= last >= loop.val_begin and runner.val_loop is not None:
            runner.val_loop.run()


def _order(loader: TrainLoader) -> dict:
    return dict(
        batch_size=loader.batch_sampler.stride,
        processes=get_dist_info()[1],
        batches=len(loader),
    )


def _words(order: dict) -> str:
    return (
        f'{order["processes"]} processes of batch size {order["batch_size"]} '
        f'({order["batches"]} batches)'
    )


def _rewind(loader: DataLoader, runner: Runner) -> None:
    """Return a sampler before anything was taken from it, with the seed of the checkpoint.

    mmengine builds it before it knows that seed, and before 0.10.12 takes the first batches from
    it before it knows where to begin.
    """
    sampler: Any = getattr(loader.batch_sampler, 'sampler', None)
    if not runner._randomness_cfg.get('diff_rank_seed', False) and hasattr(sampler, 'seed'):
        sampler.seed = runner.seed
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = sampler._indices_of_rank()
