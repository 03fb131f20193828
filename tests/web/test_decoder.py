"""The decoder in web/, which was written from docs/format.md, agrees with Python's, in Node.

What makes pixels needs the runtime that `make web` fetches; codes need Node alone.
"""

import json
import random
import shutil
import subprocess
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fuzz import harness
from golden import make
from PIL import Image

import vqcodec
import vqcodec.web
from vqcodec import container, zoo
from vqcodec.cli.program import program
from vqcodec.container import Box, Container
from vqcodec.decompress import decompress
from vqcodec.errors import CodecError, FormatError, KindError, UsageError, VqcodecError

ROOT = Path(__file__).parents[2]
WEB, GOLDEN = ROOT / "web", ROOT / "tests" / "golden"
CODECS = "photo-3", "photo-2"
MAX_PIXELS = 1 << 17  # that of check.mjs
HASHES: dict[str, str] = {  # "codec/name" -> hash
    f"{codec}/{name}": value
    for codec in CODECS
    for name, value in json.loads((GOLDEN / codec / "golden.json").read_text("utf-8")).items()
}
BUILT = all((WEB / name).exists() for name in ("kernel.wasm", "ort/ort.wasm.min.mjs"))
needs_runtime = pytest.mark.skipif(not BUILT, reason="`make web` has not fetched the runtime")

Job = dict[str, Any]
Run = Callable[[Job], Job]


@pytest.fixture(scope="module")
def run(site: Path) -> Iterator[Run]:
    """Has check.mjs do a job. One process does them all, as it takes time to load the runtime."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    # Compiling with optimizations is worth its time for larger pictures only.
    flags = "--no-wasm-tier-up", "--no-wasm-dynamic-tiering"
    process = subprocess.Popen(
        [node, *flags, str(site / "check.mjs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def ask(job: Job) -> Job:
        end = threading.Timer(300, process.kill)  # it hangs
        end.start()
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        answer: Job = json.loads(stdout.readline() or '{"crash": "there is no answer"}')
        end.cancel()
        assert "crash" not in answer, answer["crash"]
        return answer

    yield ask
    stdin.close()
    assert process.wait(60) == 0


def of_golden(name: str) -> Job:
    """The job of decoding a golden file, or a picture of the archive."""
    stem, _, number = name.partition("@")
    return {"file": str(GOLDEN / f"{stem}.vqc"), "index": int(number or 1)}


def pixels(out: Path, mode: str, width: int, height: int) -> np.ndarray:
    """What check.mjs wrote, as Pillow has pictures of a mode."""
    rgba = np.fromfile(out, np.uint8).reshape(height, width, 4)
    if mode in ("L", "LA"):
        assert (rgba[..., 0] == rgba[..., 1]).all() and (rgba[..., 0] == rgba[..., 2]).all()
    if mode[-1] != "A":
        assert (rgba[..., 3] == 255).all()
    return {"L": rgba[..., 0], "LA": rgba[..., ::3], "RGB": rgba[..., :3], "RGBA": rgba}[mode]


def assert_close(found: np.ndarray, expected: Any) -> None:
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("name", HASHES)
def test_golden_files_decode_to_their_codes(name: str, run: Run) -> None:
    assert run({**of_golden(name), "codes": True})["codes"] == HASHES[name]


@pytest.mark.parametrize("name", ["photo-3/psnr-9bit", "photo-2/photo-5bit"])
def test_codes_are_the_same_without_the_kernel(name: str, run: Run) -> None:
    assert run({**of_golden(name), "codes": True, "float": True})["codes"] == HASHES[name]


@needs_runtime
@pytest.mark.parametrize("name", HASHES)
def test_golden_files_decode_to_their_pixels_within_a_step(
    name: str, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = run({**of_golden(name), "out": str(out)})
    with Image.open(GOLDEN / f"{name}.png") as stored:
        assert (answer["width"], answer["height"]) == stored.size
        assert answer["codec"] == name.split("/")[0]
        assert (answer["grey"], answer["alpha"]) == ("L" in stored.mode, stored.mode[-1] == "A")
        assert_close(pixels(out, stored.mode, *stored.size), stored)


@needs_runtime
def test_large_pictures_are_made_in_pieces(run: Run, tmp_path: Path) -> None:
    """Of two rows of cells here, so that what a piece sees of its neighbours counts."""
    photo = np.array(Image.open(ROOT / "tests" / "data" / "photo.png"))
    file, out = tmp_path / "tall.vqc", tmp_path / "out"
    file.write_bytes(vqcodec.encode(photo[100:350, 200:250], rate="8bit", device="cpu"))
    job = {"file": str(file), "out": str(out)}
    assert run(job)["progress"][-1] == 1
    whole = np.fromfile(out, np.uint8)
    codes = run({**job, "codes": True})["codes"]
    assert run({**job, "codes": True, "piece": 8})["codes"] == codes
    progress = run({**job, "piece": 8})["progress"]
    assert progress == sorted(progress) and len({*progress}) > 10 and progress[-1] == 1
    # Sums in another order change a pixel or two; a halo that is a cell too narrow changes 20
    assert (np.fromfile(out, np.uint8) != whole).sum() < 10


@needs_runtime
@pytest.mark.parametrize("fault", ["none", "missing", "wrong", "slow", "lost", "blank"])
def test_a_gpu_has_to_prove_itself(fault: str, run: Run, tmp_path: Path) -> None:
    """It is WebAssembly here, too, with last bits flipped: they show who made a pixel."""
    out = tmp_path / "out"
    job = {**of_golden("photo-3/photo-7.3bit"), "out": str(out), "piece": 8}
    assert not run(job)["gpu"]
    expected = np.fromfile(out, np.uint8)
    assert run({**job, "gpu": fault})["gpu"] == (fault == "none")
    colours = np.array([1, 1, 1, 0] if fault == "none" else [0, 0, 0, 0], np.uint8)
    assert (np.fromfile(out, np.uint8).reshape(-1, 4) ^ expected.reshape(-1, 4) == colours).all()


@needs_runtime
def test_what_is_too_large_is_said_by_its_size(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "large.vqc"
    content = container.read((GOLDEN / "photo-3" / "photo-5bit.vqc").read_bytes())
    large = replace(content.header, width=12240, height=8160)
    file.write_bytes(container.write(replace(content, header=large)))
    answer = run({"file": str(file), "out": str(tmp_path / "out")})
    assert answer["error"] == "SizeError"
    assert "a picture of 100 megapixels" in answer["message"]


@needs_runtime
def test_profiles_and_exif_come_along(run: Run, tmp_path: Path) -> None:
    answer = run({**of_golden("photo-3/photo-icc-exif"), "out": str(tmp_path / "out")})
    picture = vqcodec.decode_picture((GOLDEN / "photo-3" / "photo-icc-exif.vqc").read_bytes())
    assert picture.icc is not None and answer["icc"] == len(picture.icc)
    assert picture.exif is not None and answer["exif"] == len(picture.exif)


@needs_runtime
def test_any_prefix_of_sections_decodes_as_in_python(run: Run, tmp_path: Path) -> None:
    for name in ("photo-3/psnr-9bit", "photo-2/photo-10bit"):
        data, out = (GOLDEN / f"{name}.vqc").read_bytes(), tmp_path / "out"
        for levels in range(1, 7):
            run({**of_golden(name), "levels": levels, "out": str(out)})
            expected = vqcodec.decode(data, levels=levels, device="cpu")
            assert_close(pixels(out, "RGB", *expected.size), expected)
        assert run({**of_golden(name), "levels": 7, "out": str(out)})["error"] == "UsageError"


@needs_runtime
def test_damage_after_the_levels_that_are_wanted_is_no_matter(run: Run, tmp_path: Path) -> None:
    data = bytearray((GOLDEN / "photo-3" / "alpha-64x48.vqc").read_bytes())
    data[-5] ^= 1
    file, out = tmp_path / "damaged.vqc", tmp_path / "out"
    file.write_bytes(data)
    assert run({"file": str(file), "out": str(out)})["error"] == "ChecksumError"
    assert run({"file": str(file), "out": str(out), "levels": 2})["levels"] == 2
    expected = vqcodec.decode(bytes(data), levels=2, device="cpu")
    assert_close(pixels(out, expected.mode, *expected.size), expected)


@needs_runtime
def test_previews_are_shown_while_a_file_arrives(run: Run, tmp_path: Path) -> None:
    data, out = (GOLDEN / "photo-3" / "psnr-9bit.vqc").read_bytes(), tmp_path / "out"
    answer = run({**of_golden("photo-3/psnr-9bit"), "out": str(out), "stream": True})
    shown = {one["levels"]: one["draft"] for one in answer["previews"]}
    assert [*shown] == sorted(shown) and set(shown) <= {1, 2, 3, 4, 5} and len(shown) > 1
    final = vqcodec.decode(data, device="cpu")
    assert_close(pixels(out, "RGB", *final.size), final)
    for levels, draft in shown.items():
        preview = pixels(Path(f"{out}.{levels}"), "RGB", *final.size)
        assert draft == (levels == min(shown))
        if draft:  # what as many levels decode to, but without the residual network
            coarse = np.asarray(vqcodec.decode(data, levels=levels, device="cpu"), float)
            assert np.abs(preview - coarse).mean() < 10
        else:
            assert_close(preview, vqcodec.decode(data, levels=levels, device="cpu"))


def hostile() -> list[bytes]:
    """Mutations of small files of both codecs, and of what the fuzz targets start from; each also
    with sound checksums."""
    seeds = [*harness.corpus("container"), *harness.corpus("decode")]
    small = "colour-1x1", "grey-17x9", "tail-40x30", "alpha-64x48", "archive"
    ours = [(GOLDEN / codec / f"{name}.vqc").read_bytes() for codec in CODECS for name in small]
    rng = random.Random(1)
    files = [*seeds, *(harness.mutated(rng, ours) for _ in range(80))]
    return [file for data in files for file in (data, harness.sealed(data))]


def content(data: bytes) -> Container:
    """The picture of a file, or the first of an archive."""
    try:
        return container.read(data)
    except FormatError:
        if len(data) > 4 and data[4] & 0x80:
            return container.read_archive(data)[0]
        raise


def verdict(data: bytes) -> tuple[str, str]:
    """What Python makes of a file: ('refused', error), ('other', '') or ('codes', their hash)."""
    try:
        data = container.write(content(data))
        codec = zoo.load(zoo.for_header(container.read(data).header), "cpu")
        if codec.card.id not in CODECS:
            return "other", ""
        decompress(codec, data, max_pixels=MAX_PIXELS)
        return "codes", make.codes_hash(codec, data)
    except CodecError:
        return "other", ""
    except FormatError as error:
        return "refused", type(error).__name__


@needs_runtime
def test_hostile_files_end_as_in_python(run: Run, tmp_path: Path) -> None:
    file, kinds = tmp_path / "hostile.vqc", Counter[str]()
    for data in hostile():
        file.write_bytes(data)
        kind, expected = verdict(data)
        kinds[kind] += 1
        answer = run({"file": str(file), "out": str(tmp_path / "out")})
        if kind == "codes":
            assert run({"file": str(file), "codes": True}).get("codes") == expected
        else:
            assert answer["error"] == (expected or "CodecError")
    assert min(kinds["refused"], kinds["codes"], kinds["other"]) >= 20


@needs_runtime
def test_what_is_asked_of_an_archive_has_to_be_there(run: Run, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for name, index, error in (("archive", 4, UsageError), ("grey-17x9", 2, KindError)):
        file = GOLDEN / "photo-3" / f"{name}.vqc"
        with pytest.raises(error) as raised:
            vqcodec.decode(file, index=index)
        answer = run({"file": str(file), "index": index, "out": out})
        assert answer["error"] == type(raised.value).__name__


def png(size: tuple[int, int], mode: str = "L", filtered: bool = True) -> bytes:
    """Noise, which makes an encoder use all filters where it may use them."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8).cumsum(1)
    picture = Image.fromarray((noise // 97).astype(np.uint8)).convert(mode)
    buffer = BytesIO()
    picture.save(buffer, "PNG", compress_level=6 if filtered else 0)
    return buffer.getvalue()


def more_rows(data: bytes) -> bytes:
    """A PNG whose header states a row fewer than there are."""
    chunk = data[12:20] + (int.from_bytes(data[20:24], "big") - 1).to_bytes(4, "big") + data[24:29]
    return data[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]


@needs_runtime
@pytest.mark.parametrize(
    ("alpha", "error"),
    [
        (png((64, 48)), None),
        (png((64, 48), filtered=False), None),
        (png((48, 64)), "FormatError"),
        (png((64, 48), "RGB"), "FormatError"),
        (more_rows(png((64, 49))), "FormatError"),
        (png((64, 48))[:-20], "FormatError"),
        (b"", "FormatError"),
    ],
)
def test_alpha_is_a_grey_png_of_the_picture_s_size(
    alpha: bytes, error: str | None, run: Run, tmp_path: Path
) -> None:
    content = container.read((GOLDEN / "photo-3" / "alpha-64x48.vqc").read_bytes())
    file, out = tmp_path / "alpha.vqc", tmp_path / "out"
    file.write_bytes(container.write(replace(content, boxes=(Box("ALPH", alpha),))))
    assert run({"file": str(file), "out": str(out)}).get("error") == error
    if error is None:
        found = pixels(out, "RGBA", 64, 48)[..., 3]
        assert np.array_equal(found, np.asarray(Image.open(BytesIO(alpha))))


@pytest.mark.parametrize("order", [b"II*\0", b"MM\0*"])
def test_exif_of_the_saved_png_says_upright(order: bytes, site: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    exif = Image.Exif()
    exif.endian = "<" if order[:1] == b"I" else ">"
    exif[0x010E], exif[0x0112] = "a picture", 6
    before = exif.tobytes().removeprefix(b"Exif\0\0")
    assert before[:4] == order
    script = """import { upright } from "./png.js";
        process.stdout.write(upright(new Uint8Array(Buffer.from(process.argv[1], "hex"))));"""
    command = [node, "--input-type=module", "-e", script, before.hex()]
    after = Image.Exif()
    after.load(subprocess.run(command, cwd=site, check=True, stdout=subprocess.PIPE).stdout)
    assert (after[0x010E], after[0x0112]) == ("a picture", 1)


def test_the_command_exports_what_the_function_does(tmp_path: Path, site: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(program, ["export", "photo-2", "--web", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    written = [Path(name) for name in json.loads(result.output)["web"]]
    assert [path.name for path in written] == ["2-b36007af.safetensors", "2-b36007af.onnx"]
    for path in written:
        assert path.read_bytes() == (site / "models" / path.name).read_bytes()
    again = runner.invoke(program, ["export", "photo-2", "--web", str(tmp_path)])
    assert again.exit_code == 8 and "--force" in again.output
    for wrong in (["photo-2"], ["photo-2", "--web", "a", "-o", "b"]):
        assert runner.invoke(program, ["export", *wrong]).exit_code == 2


def test_the_models_are_small(site: Path) -> None:
    assert sum(path.stat().st_size for path in (site / "models").iterdir()) < 16e6


def test_only_ladders_are_exported(tmp_path: Path) -> None:
    with pytest.raises(VqcodecError, match="web/ decodes the system ladder, and not hqa"):
        vqcodec.web.export_web("hqa-digits", tmp_path)
    assert not [*tmp_path.iterdir()]
