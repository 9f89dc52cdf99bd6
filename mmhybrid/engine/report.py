"""A page about a training or an evaluation, written where it ends."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmhybrid.files import write_file
from mmhybrid.registry import HOOKS

if TYPE_CHECKING:
    from mmhybrid.inspect.report.records import Recorder


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes one self-contained HTML file after a training or an evaluation.

    It holds the curves of the work dir, average precision or IoU by class and size, precision and
    recall, confusions, the worst and best images with their ground truth, the environment and the
    config; see docs/looking.md. A report that fails is logged and never ends a training.

    ``custom_hooks = [dict(type='mmhybrid.ReportHook')]`` in a config of any host library.

    Args:
        path: of the file; by default ``report.html`` in the work dir.
        score_thr: least score of objects that are drawn and counted as confusions.
        examples: how many of the worst, and how many of the best images are shown.
        weights: what the page calls the weights; by default what is known of them.
    """

    priority = 'VERY_LOW'  # after the logger: the last scalars are on disk

    def __init__(
        self,
        path: str | None = None,
        score_thr: float = 0.3,
        examples: int = 6,
        weights: str | None = None,
    ):
        if not 0 <= score_thr <= 1 or examples < 1:
            raise ValueError(
                f'ReportHook: score_thr={score_thr}, examples={examples}; expected 0 to 1, and 1 '
                'or more'
            )
        self.path = path
        self.score_thr = score_thr
        self.examples = examples
        self.weights = weights
        self._recorder: Recorder | None = None
        self._records: list[dict] = []
        self._metrics: dict = {}

    def before_val_epoch(self, runner: Runner) -> None:
        self._begin(runner, runner.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        self._begin(runner, runner.test_dataloader)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._take(runner, outputs)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._take(runner, outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._metrics = dict(metrics or {})

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._metrics = dict(metrics or {})
        self._write(runner)

    def after_train(self, runner: Runner) -> None:
        self._write(runner)

    def _begin(self, runner, loader) -> None:
        from mmhybrid.inspect.report.records import Recorder

        self._records = []
        try:
            self._recorder = Recorder(runner.default_scope.scope_name, loader.dataset)
        except Exception:
            self._give_up(runner)

    def _take(self, runner, outputs) -> None:
        if self._recorder is None:
            return
        try:
            self._records += [self._recorder.take(sample) for sample in outputs or ()]
        except Exception:
            self._give_up(runner)

    def _give_up(self, runner) -> None:
        self._recorder, self._records = None, []
        runner.logger.exception('ReportHook: the report will show no images and classes')

    def _write(self, runner) -> None:
        gathered = all_gather_object(self._records)
        if not is_main_process():
            return
        try:
            # A distributed sampler repeats images to give every process as many.
            records = {record['id']: record for part in gathered for record in part}
            path = Path(self.path or Path(runner.work_dir) / 'report.html')
            write_file(path, self._page(runner, list(records.values())))
            runner.logger.info(f'report: {path}')
        except Exception:
            runner.logger.exception('ReportHook: no report was written')

    def _page(self, runner, records: list[dict]) -> str:
        from mmengine.utils.dl_utils import collect_env

        import mmhybrid
        from mmhybrid.inspect.report.page import build_page, read_logs

        environment = dict(
            mmhybrid=mmhybrid.__version__, written=f'{datetime.now():%Y-%m-%d %H:%M}'
        )
        if runner.iter:
            environment['weights'] = f'of this training, after {runner.iter} steps'
        elif self.weights:
            environment['weights'] = self.weights
        return build_page(
            Path(runner.cfg.filename or runner.experiment_name).stem,
            scope=runner.default_scope.scope_name,
            records=records,
            meta=self._recorder.meta if self._recorder else {},
            metrics=self._metrics,
            logs=read_logs(runner.work_dir),
            config=runner.cfg.pretty_text,
            environment=environment | collect_env(),
            score_thr=self.score_thr,
            examples=self.examples,
        )
