"""A model for people: a page in Markdown, its learning curve, and its worst reconstructions."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from beam_job.train.checkpoint import Epoch
from beam_job.train.fit import mean_psnr
from transforms.models.directory import ModelCard
from transforms.quiet import own_environment

PAGE_FILE = "README.md"
CURVE_FILE = "learning_curve.png"
WORST_FILE = "worst.png"
WORST_IMAGES = 32
_WORST_CLASSES = 8
_DOTS_PER_INCH = 144


def learning_curve(history: Sequence[Epoch]) -> bytes:
    """A PNG of the PSNR by epoch, of validation images and of training images as they were seen."""
    with own_environment():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    figure = Figure((6.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    epochs = [epoch.epoch for epoch in history]
    axes.plot(epochs, [epoch.validation_psnr for epoch in history], label="validation")
    training = [mean_psnr(epoch.training_loss) for epoch in history]
    axes.plot(epochs, training, label="training (with noise and changed images)", alpha=0.6)
    axes.set_xlabel("epoch")
    axes.set_ylabel("PSNR in dB")
    axes.grid(alpha=0.3)
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return content.getvalue()


def model_page(card: ModelCard) -> str:
    """The page of a model in Markdown, from what its card says."""
    return "\n".join(
        [
            "# An EMNIST autoencoder",
            "",
            (
                f"An encoder maps images of 28x28 pixels to {card.latent_size} numbers; a "
                "decoder maps them back. `compress --model=DIR` and `reconstruct --model=DIR` use "
                "it."
            ),
            "",
            "## Training",
            "",
            *_bullets(_training_facts(card)),
            "",
            f"![Learning curve]({CURVE_FILE})",
            "",
            "## Quality",
            "",
            "PSNR in dB and SSIM of held-out images, by how their latents are stored:",
            "",
            *_quality_table(card.quality),
            "",
            *_class_lines(card.classes),
            (
                f"The {WORST_IMAGES} held-out images that lose most: original, reconstruction, "
                "difference."
            ),
            "",
            f"![Worst reconstructions]({WORST_FILE})",
            "",
        ]
    )


def _training_facts(card: ModelCard) -> list[str]:
    data, settings = card.data, card.settings
    held_out = sum(data["held_out_images"].values())
    return [
        f"Data: {data['name']}.",
        *([data["note"]] if "note" in data else []),
        (
            f"Images: {data['training_images']:,} fitted, {data['validation_images']:,} to choose "
            f"the weights, {held_out:,} held out."
        ),
        f"Split: {data['split']}.",
        f"Fingerprint (SHA-256 of the fitted and the validation images): `{data['fingerprint']}`.",
        f"Epochs: {len(card.history)}, of which {card.best_epoch} was best.",
        "Settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()) + ".",
        (
            f"Parameters: {card.parameters.encoder:,} in the encoder, "
            f"{card.parameters.decoder:,} in the decoder."
        ),
        *card.warnings,
    ]


def _quality_table(quality: Mapping[str, Any]) -> list[str]:
    names = list(quality)
    rows = [
        [stored, *(_cell(quality[name][stored]) for name in names)] for stored in quality[names[0]]
    ]
    return _table(["latents", *names], rows)


def _cell(summary: Mapping[str, Any]) -> str:
    return f"{summary['psnr']:.2f} dB, {summary['ssim']:.3f}"


def _class_lines(classes: Mapping[str, Any]) -> list[str]:
    if not classes:
        return []
    ranked = sorted(classes.items(), key=lambda item: item[1]["psnr"])
    rows = [
        [f"`{name}`", f"{summary['images']:,}", f"{summary['psnr']:.2f}", f"{summary['ssim']:.3f}"]
        for name, summary in ranked
    ]
    worst = ", ".join(f"`{name}`" for name, _ in ranked[:_WORST_CLASSES])
    return [
        f"It is worst at {worst}. Every class, the worst first, with float32 latents:",
        "",
        *_table(["class", "images", "PSNR in dB", "SSIM"], rows),
        "",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _bullets(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]
