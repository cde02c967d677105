"""Our decoder fitted to a log that is at hand, in no folder of its own."""

import tempfile
from pathlib import Path

from pytorch_lightning.callbacks import LambdaCallback

from recsys.config import Config
from recsys.console import Advance, unheard
from recsys.data.purchases import Purchases
from recsys.modeling.build import build_module, repeatable
from recsys.modeling.decoder_system import DecoderSystem, open_decoder
from recsys.modeling.training.fit import fit
from recsys.runs import Run


def fit_decoder(config: Config, log: Purchases, progress: Advance = unheard) -> DecoderSystem:
    """Return our decoder fitted to ``log`` as ``recsys train`` fits it; ``progress`` hears of steps."""
    with tempfile.TemporaryDirectory(prefix="recsys-run-") as folder:
        with repeatable():
            module = build_module(config, log)
            heard = LambdaCallback(
                on_train_batch_end=lambda loop, *_: progress(loop.global_step, int(loop.estimated_stepping_batches))
            )
            info = fit(config, log, module, Path(folder), callbacks=[heard], command="recsys.fit")
        return open_decoder(Run(Path(folder), config, info), log)
