"""randhet export: a trained model to an integer network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from randhet.cli.console import emit, err, out
from randhet.cli.model_options import ModelOptions, OptionalModel, data_of, load_model, model_options
from randhet.cli.options import Json, Seed, Threads, use_threads

if TYPE_CHECKING:
    from randhet.export.ensemble import Changes
    from randhet.export.model import Model
    from randhet.export.model_files import Said
    from randhet.export.pipeline import Exported
    from randhet.fixed_point.ensemble import Combine
    from randhet.fixed_point.generator import GeneratorKind
    from randhet.fixed_point.network import Network


@model_options
def command(
    path: OptionalModel = None,
    file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Network to write.")] = Path("model.net"),
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            help="Images for calibration: a folder, or one of {data}.",
            show_default="the training data",
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=1, help="Number of calibration images.")] = 256,
    bits: Annotated[
        int | None, typer.Option(metavar="N", help="Weight bits, 2 to 8.", show_default="8, or as fine-tuned")
    ] = None,
    fraction: Annotated[
        int, typer.Option(help="Fractional bits f of membrane potentials, 0 to 12; lowered where needed.")
    ] = 6,
    tau_bits: Annotated[int, typer.Option(help="Random bits per draw of a decay factor, 1 to 8.")] = 8,
    scales: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Kind of weight scales: {scales}.",
            show_default="channel, or as fine-tuned",
        ),
    ] = None,
    layer_bits: Annotated[
        str | None,
        typer.Option(metavar="LAYER=N,...", help="Weight bits of single layers.", show_default="as --bits"),
    ] = None,
    passes: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Passes that use calibration images, with commas: {passes}; or none."),
    ] = "none",
    cores: Annotated[
        int, typer.Option("--neurons-per-core", help="Number of neurons that share one shift register.")
    ] = 1024,
    generator: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="Where random decay factors come from: register, shift registers; or chacha, the cipher ChaCha20.",
        ),
    ] = "register",
    member_sigmas: Annotated[
        str | None,
        typer.Option(metavar="SIGMA,...", help="Export an ensemble: a member for each spread of its decay factors."),
    ] = None,
    member_steps: Annotated[
        str | None,
        typer.Option(metavar="T,...", help="Export an ensemble: a member for each number of time steps."),
    ] = None,
    combine: Annotated[
        str, typer.Option(metavar="KIND", help="How members of an ensemble decide: {combine}.")
    ] = "average",
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="Also write the integer network as ONNX.")
    ] = None,
    onnx_integer_step: Annotated[
        Path | None,
        typer.Option(
            "--onnx-integer-step",
            metavar="FILE",
            help="Also write one time step of the integer network as ONNX, with its states as inputs and outputs.",
        ),
    ] = None,
    onnx_float: Annotated[
        Path | None,
        typer.Option("--onnx-float", metavar="FILE", help="Also write the float model as ONNX, all time steps."),
    ] = None,
    onnx_step: Annotated[
        Path | None,
        typer.Option(
            "--onnx-step",
            metavar="FILE",
            help="Also write one time step of the float model as ONNX, with its states as inputs and outputs.",
        ),
    ] = None,
    taus: Annotated[
        str,
        typer.Option("--taus", metavar="KIND", help="Decay factors in float ONNX: drawn by the graph, or an input."),
    ] = "drawn",
    nir: Annotated[
        Path | None, typer.Option("--nir", metavar="FILE", help="Also write the float model as NIR.")
    ] = None,
    c: Annotated[
        Path | None,
        typer.Option("--c", metavar="DIR", help="Also write the integer network as C without multiplication."),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            "--vectors",
            metavar="DIR",
            help="Also write every integer of a run of two calibration images, to test hardware; seed 1, or --seed.",
        ),
    ] = None,
    seed: Seed = None,
    random_init: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Export a named model with random weights instead of MODEL: {models}."),
    ] = None,
    threads: Threads = None,
    *,
    said: ModelOptions,
    as_json: Json = False,
) -> None:
    """Export a trained model as an integer network: fold, calibrate on data, quantise, check, write.

    Every layer of the exported network is held against MODEL on calibration images. A network of lava-dl holds integers
    already and is written as it is.

    --seed writes a master seed into the file, which makes its random numbers public. A network that must withstand
    attacks needs a file without a seed.

    Members of an ensemble share all weights. They differ in tables of decay factors and in time steps, and the file
    holds one network with a table for each.

    Example: `randhet export model.pt -o model.net --onnx model.onnx --nir model.nir`

    A model of your own: `randhet export own.py:net --weights own.pt -o own.net --data digits`
    """
    from randhet.export.formats import prepared
    from randhet.export.pipeline import export, settings_for
    from randhet.fixed_point.generator import GENERATORS
    from randhet.netx.write import write

    use_threads(threads)
    one_of("--taus", taus, ("drawn", "input"))
    one_of("--generator", generator, GENERATORS)
    files = {"onnx": onnx, "onnx-integer-step": onnx_integer_step, "onnx-float": onnx_float, "onnx-step": onnx_step}
    files |= {"nir": nir, "c": c}
    asked = {name: path for name, path in files.items() if path is not None}
    if vectors is not None:
        asked["vectors"] = vectors
    members = members_of(member_sigmas, member_steps, combine, asked)
    model, name, images = source(path, random_init, data, samples, said)
    settings = settings_for(
        model,
        weight_bits=bits,
        f=fraction,
        tau_bits=tau_bits,
        scales=scales,
        neurons_per_core=cores,
        layer_bits=bits_of(layer_bits),
        passes=passes_of(passes),
    )
    with err.status("exporting") as status:
        how: dict[str, Any] = {"settings": settings, "seed": seed, "generator": cast("GeneratorKind", generator)}
        how |= {"data": name, "progress": status.update}
        if members:
            show(leave_ensemble(file, model, images, members, cast("Combine", combine), how), as_json)
            return
        exported = export(model, images, **how)
        status.update("writing")
        writers = prepared(exported, {name: path for name, path in asked.items() if name != "vectors"}, taus)
        if vectors is not None:
            shown = as_pixels(exported.network, images[:2])
            writers.append(vector_writer(vectors, exported.network, shown, 1 if seed is None else seed))
        write(file, exported.network)
        for written in writers:
            written()
    show(summed(file, exported, asked), as_json)


def summed(file: Path, exported: Exported, files: dict[str, Path]) -> dict[str, Any]:
    """What was written, and what calibration saw."""
    return {
        "network": str(file),
        "files": {name: str(path) for name, path in files.items()},
        "layers": len(exported.network.layers),
        "bytes": file.stat().st_size,
        "calibration_images": exported.calibration.images,
        "saturations": exported.calibration.saturations,
        "largest": {
            layer.layer: {"current": layer.current, "membrane": layer.membrane, "f": layer.f}
            for layer in exported.calibration.layers
        },
    }


def show(summary: dict[str, Any], as_json: bool) -> None:
    """Print what was written, as a line for each file or as one object."""
    if as_json:
        emit(summary)
        return
    shared = f" of {len(summary['members'])} members" if "members" in summary else ""
    size = f"{summary['layers']} layers{shared}, {summary['bytes']:,} bytes"
    out.print(f"{summary['network']}: {size}, {summary['saturations']} saturations")
    for name, path in summary["files"].items():
        out.print(f"{path}: {name}, {size_of(Path(path)):,} bytes", highlight=False)


def members_of(sigmas: str | None, steps: str | None, combine: str, asked: dict[str, Path]) -> list[Changes]:
    """Members that the options ask for; none for one network. Files of other formats hold one network only."""
    from randhet.base.errors import RandhetError
    from randhet.export.ensemble import changes
    from randhet.fixed_point.ensemble import COMBINE
    from randhet.train.configuration import typed

    one_of("--combine", combine, COMBINE)
    given = [
        typed(option, text, tuple[kind, ...]) if text else ()  # type: ignore[valid-type]
        for option, text, kind in (("--member-sigmas", sigmas, float), ("--member-steps", steps, int))
    ]
    members = changes(*given)
    if members and asked:
        raise RandhetError(
            f"--{next(iter(asked))} writes one network, an ensemble is written as .net only: leave it out"
        )
    return members


def leave_ensemble(
    file: Path, model: Model, images: Any, members: list[Changes], combine: Combine, how: dict[str, Any]
) -> dict[str, Any]:
    """Export every member and write the ensemble."""
    from randhet.export.ensemble import export_ensemble
    from randhet.netx.ensemble import write

    ensemble, made = export_ensemble(model, images, members, combine, **how)
    write(file, ensemble)
    saturations = sum(exported.calibration.saturations for exported in made)
    own = {"members": list(map(dict, members)), "combine": combine, "saturations": saturations}
    return summed(file, made[0], {}) | own


def vector_writer(folder: Path, network: Any, images: Any, seed: int) -> Callable[[], None]:
    """Compute test vectors; what is returned writes them."""
    from randhet.export.c.vectors import save, vectors

    arrays = vectors(network, images, seed)
    return lambda: save(folder, network, arrays, seed)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise RandhetError unless an option has one of the values allowed."""
    from randhet.base.errors import RandhetError

    if value not in allowed:
        raise RandhetError(f"{option} is {value!r}, it must be one of {', '.join(allowed)}")


def passes_of(text: str) -> tuple[str, ...]:
    """clip,correct-bias as names of passes; none of them for none."""
    names = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    return () if names == ["none"] else tuple(names)


def bits_of(text: str | None) -> tuple[tuple[str, int], ...]:
    """conv1=4,fc1=6 as pairs."""
    from randhet.base.errors import RandhetError

    pairs = []
    for pair in filter(None, (text or "").split(",")):
        name, _, bits = pair.partition("=")
        if not bits.strip().isdigit():
            raise RandhetError(f"--layer-bits {pair!r} is not of the form LAYER=N")
        pairs.append((name.strip(), int(bits)))
    return tuple(pairs)


def as_pixels(network: Network, images: Any) -> Any:
    """Images (N, C, Y, X) as the network takes them: in one row, or as currents, where its input is that."""
    from randhet.netx.lava_dl import currents

    return currents(network, images.reshape(-1, *network.image_shape))


def source(
    path: Path | None, random_init: str | None, data: str | None, samples: int, said: Said
) -> tuple[Model, str, Any]:
    """MODEL, or a named one with random weights; the name of the data and images (N, C, Y, X) uint8 to calibrate on."""
    import numpy as np

    from randhet.base.errors import RandhetError
    from randhet.cli.commands.train import named_model
    from randhet.export.model import of_checkpoint
    from randhet.train import checkpoint as checkpoints
    from randhet.train.data.sources import load

    if (path is None) == (random_init is None):
        raise RandhetError("export needs MODEL, or --random-init with the name of a model, and not both")
    model = None if path is None else load_model(path, said)
    name = data if model is None else data_of(data, model)
    if name:
        images = load(name, "train")
        pixels = images.take(min(samples, len(images))).pixels
    else:
        settings = named_model(str(random_init))
        shape = (min(samples, 4), settings.in_channels, *settings.image_size)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if model is None:
        model = of_checkpoint(checkpoints.random_init(named_model(str(random_init)), images=pixels))
    return model, name or "", pixels
