"""The drawings of the critters: cats and dogs of invented breeds, whose attributes are known.

A breed fixes some attributes and leaves others free (graphs/critters.yaml). We draw every image, so "did the path
go through the right colour?" (Sec. 4.4) has a true answer. All is made of one shape, the stroke: a line whose radius
changes evenly from end to end. An ear is a stroke that ends in a point, a tail is several. Units: an image spans
[-1, 1] x [-1, 1] at every `size`, y points down; S is `size`.

The same bytes on every machine: only + - * / sqrt, min, max, floor, which IEEE 754 rounds alike everywhere (sin, exp
and sums over an axis may differ in the last bit, so a rotation is a rational function), and only `rng.random`, never
`rng.normal` or `rng.uniform`.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import yaml

from labelaug_core.graph_file import GRAPHS

GRAPH_FILE = GRAPHS / "critters.yaml"


@dataclass(frozen=True)
class Critters:
    """N images with their breeds and the truth about what was drawn."""

    images: np.ndarray  # uint8 [N, size, size, 3], RGB
    breeds: list[str]  # length N
    attributes: list[dict[str, str]]  # length N, each group -> node, "species" included


# A breed besides its attributes: half-width of the head, radius of the rump, hue of the
# iris, length of the muzzle; all jitter. Coat colours (hue, saturation, value) are shared.
LOOKS = {
    "Inkling": (0.08, 0.27, 0.16, 0.00), "Cloudkin": (0.14, 0.30, 0.55, 0.00),
    "Brackenpaw": (0.09, 0.26, 0.27, 0.00), "Marmalet": (0.13, 0.31, 0.18, 0.00),
    "Duskmask": (0.08, 0.26, 0.58, 0.00), "Pudding Fold": (0.14, 0.29, 0.50, 0.00),
    "Albion Shorthair": (0.20, 0.35, 0.07, 0.00), "Biscuit Terrier": (0.09, 0.27, 0.07, 0.14),
    "Harbour Mop": (0.13, 0.31, 0.07, 0.10), "Fenwick Hound": (0.07, 0.26, 0.08, 0.20),
    "Snowberry": (0.11, 0.30, 0.55, 0.11), "Drover's Lad": (0.08, 0.28, 0.07, 0.18),
    "Tarnback": (0.12, 0.30, 0.10, 0.12), "Motley Smooth": (0.18, 0.35, 0.09, 0.06),
}  # fmt: skip
COATS = [(0.10, 0.18, 0.90), (0.08, 0.50, 0.82), (0.06, 0.50, 0.60), (0.60, 0.16, 0.66), (0.09, 0.10, 0.50)]
# Chains of points (x, y, radius): the right ear from the middle of the head (the left one
# is its mirror image), the tail from where it leaves the rump.
SHAPES = {
    "Upright Ears": [(0.25, -0.20, 0.16), (0.36, -0.54, 0.02)],
    "Folded Ears": [(0.22, -0.25, 0.10), (0.38, -0.17, 0.07)],
    "Pricked Ears": [(0.24, -0.20, 0.14), (0.31, -0.56, 0.05)],
    "Drop Ears": [(0.34, -0.18, 0.09), (0.47, 0.18, 0.13)],
    "Thin Tail": [(0, 0.1, 0.06), (0.32, 0.04, 0.055), (0.44, -0.22, 0.05), (0.36, -0.5, 0.045), (0.44, -0.68, 0.04)],
    "Bushy Tail": [(0, 0.1, 0.08), (0.3, 0.0, 0.14), (0.42, -0.26, 0.18), (0.38, -0.52, 0.14), (0.44, -0.7, 0.04)],
    "Curled Tail": [(0, -0.1, 0.08), (0.32, -0.16, 0.08), (0.46, -0.4, 0.08), (0.28, -0.62, 0.07), (0.1, -0.48, 0.05)],
    "Straight Tail": [(0, -0.05, 0.09), (0.54, -0.5, 0.04)],
}


@lru_cache(maxsize=1)
def graph():
    """The YAML as (group -> its nodes, breed -> attribute group -> the nodes it may show)."""
    groups = yaml.safe_load(GRAPH_FILE.read_text(encoding="utf-8"))["groups"]
    breeds = {}
    for group in groups.values():
        for breed, row in group["nodes"].items() if "columns" in group else ():
            rows = [nodes if isinstance(nodes, list) else [nodes] for nodes in row]
            species = groups[group["columns"][0]]["below"]
            breeds[breed] = {"species": [species], **dict(zip(group["columns"], rows, strict=True))}
    return {name: list(group["nodes"]) for name, group in groups.items()}, breeds


def drawing_hash() -> str:
    """sha256 of this module and its YAML: a cache made by other code is stale."""
    return hashlib.sha256(Path(__file__).read_bytes() + GRAPH_FILE.read_bytes()).hexdigest()


def generate(n_per_breed: int, seed: int, size: int = 32) -> Critters:
    """Draw n_per_breed images of each of the B breeds, in turn: image i shows breed i mod B.

    Image i depends on (seed, i, size) alone, so a larger n_per_breed only appends.
    Free attributes are uniform over the values that the YAML lists for the breed.
    """
    if n_per_breed < 1 or seed < 0 or size < 16:
        raise ValueError(f"want n_per_breed >= 1, seed >= 0, size >= 16; got {n_per_breed}, {seed}, {size}")
    scenes = list(_scenes(n_per_breed, seed))
    images = np.stack([draw(breed, attributes, rng, size) for breed, attributes, rng in scenes])
    return Critters(images, *truth(n_per_breed, seed))


def stream(seed: int, i: int) -> np.random.Generator:
    """The random numbers of image i of a part, whatever the other images are."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(i,))))


def _scenes(n_per_breed: int, seed: int):
    """Of each image its breed, its attributes, and the generator that draws the rest."""
    for i, breed in enumerate(list(graph()[1]) * n_per_breed):
        rng = stream(seed, i)
        yield breed, {group: nodes[int(rng.random() * len(nodes))] for group, nodes in graph()[1][breed].items()}, rng


def truth(n_per_breed: int, seed: int) -> tuple[list[str], list[dict[str, str]]]:
    """Breeds and attributes of generate(n_per_breed, seed), without drawing."""
    scenes = [(breed, attributes) for breed, attributes, _ in _scenes(n_per_breed, seed)]
    return [breed for breed, _ in scenes], [attributes for _, attributes in scenes]


def noise(rng, at, cells: int):
    """Smooth noise in [-1, 1], [S, S]: a random lattice, interpolated at the pixel centres at [S]."""
    place = (at + 1.0) * (0.5 * (cells - 1))
    low, part = place.astype(np.intp), place - np.floor(place)
    lattice = (2.0 * rng.random((cells, cells)) - 1.0).astype(np.float32)
    rows = lattice[low] + part[:, None] * (lattice[low + 1] - lattice[low])
    return rows[:, low] + part * (rows[:, low + 1] - rows[:, low])


def wave(v):
    """A triangle wave of period 1 between -1 and 1."""
    return 4.0 * np.abs(v - np.floor(v) - 0.5) - 1.0


def ramp(v, soft):
    """A soft step: 0 where v < -soft/2, 1 where v > soft/2, straight between."""
    return np.clip(v * (1.0 / soft) + 0.5, 0.0, 1.0)


def depth(x, y, *chain):
    """How deep the points x, y [S, S] lie inside the strokes that join a chain; negative outside."""
    deepest = -9.0
    for (ax, ay, ar), (bx, by, br) in zip(chain, chain[1:] or chain, strict=False):  # a lone point is a disc
        dx, dy = bx - ax, by - ay
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-6), 0.0, 1.0)
        px, py = x - ax - along * dx, y - ay - along * dy
        deepest = np.maximum(deepest, ar + along * (br - ar) - np.sqrt(px * px + py * py))
    return deepest


def turn(x, y, t):
    """Rotate by the angle whose half has the tangent t."""
    cos, sin = (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)
    return cos * x + sin * y, cos * y - sin * x


def hsv(hue, saturation, value):
    """RGB, float32 [3, 1, 1]."""
    away = [max(0.0, min(k, 4.0 - k, 1.0)) for k in ((n + 6.0 * hue) % 6.0 for n in (5.0, 3.0, 1.0))]
    return np.array([value * (1.0 - saturation * k) for k in away], np.float32).reshape(3, 1, 1)


def paint(canvas, inside, soft, colour):
    """Lay colour ([3, 1, 1] or [3, S, S]) over canvas [3, S, S] where inside [S, S] is positive."""
    canvas += ramp(inside, soft) * (colour - canvas)


def backdrop(rng, at):
    """A wall with some texture, a floor, a stick and a ball: float32 [3, S, S]."""
    x, y, blots = at, at[:, None], noise(rng, at, 8)
    wall, paper, floor, ball, stick = (hsv(r(), 0.4 * r(), 0.35 + 0.6 * r()) for r in [rng.random] * 5)
    kind, a, b, horizon, left, right = rng.random(6).tolist()
    papers = [blots, wave(4.0 * a * x + 3.0 * b * y), wave(3.0 * x) * wave(3.0 * y + b)]
    canvas = wall + 0.0 * blots
    paint(canvas, papers[int(3.0 * kind)], 0.5, 0.3 * wall + 0.7 * paper)
    paint(canvas, y - 0.35 - 0.5 * horizon, 0.1, floor)
    paint(canvas, depth(x, y, (2.0 * left - 1.0, -1.0, 0.05), (2.0 * b - 1.0, 0.9, 0.08)), 0.06, stick)
    paint(canvas, depth(x, y, (2.0 * right - 1.0, 0.7, 0.2)), 0.06, ball)
    return canvas


def markings(pattern: str, rng, u, v, hx, hy):
    """Where the coat is marked, 0 to 1: (torso, head, ears, tail), each [S, S] or one number."""
    shift, jitter = rng.random(), (0.16 * rng.random((9, 2)) - 0.08).tolist()
    if pattern == "Tabby-Color":
        rings = ramp(wave(3.4 * v + 1.2 * u + 0.25 * wave(1.5 * u) + shift), 0.9)
        brow = ramp(wave(4.0 * hx + 0.5) - 0.2, 0.8) * ramp(-0.02 - hy, 0.1)
        return rings, np.maximum(brow, ramp(wave(4.5 * hy), 0.8) * ramp(np.abs(hx) - 0.26, 0.1)), 0.4, rings
    if pattern == "Point-Color":
        return ramp(v - 0.66, 0.2), ramp(depth(hx, hy, (0.0, -0.02, 0.2), (0.0, 0.2, 0.17)), 0.14), 1.0, 1.0
    if pattern == "Spotted Coat":
        spots = [(-0.2 + 0.24 * (k % 3) + a, 0.12 + 0.22 * (k // 3) + b, 0.085) for k, (a, b) in enumerate(jitter)]
        torso = np.maximum.reduce([depth(u, v, spot) for spot in spots])
        return ramp(torso, 0.06), ramp(depth(hx, hy, (0.2, -0.06, 0.16)), 0.06), ramp(hx, 0.1), 0.0
    if pattern == "Saddle Coat":
        return ramp(depth(u, v, (0.1, 0.05, 0.2), (0.4, 0.42, 0.25)), 0.1), ramp(-0.12 - hy, 0.1), 1.0, 1.0
    return 0.0, 0.0, 0.0, 0.0  # Solid-Color, Plain Coat


def draw(breed: str, attributes: dict[str, str], rng: np.random.Generator, size: int = 32) -> np.ndarray:
    """One critter: RGB, uint8 [size, size, 3].

    attributes: group -> node for each attribute group of the breed's species; a value
    that the breed never has is drawn all the same.
    """
    groups, breeds = graph()
    if breed not in breeds:
        raise ValueError(f"unknown breed {breed!r}: want one of {', '.join(breeds)}")
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, got {size}")
    (_, (species,)), *columns = breeds[breed].items()
    for group, _ in columns:
        if attributes.get(group) not in groups[group]:
            raise ValueError(f"{breed}: {group} must be one of {groups[group]}, got {attributes.get(group)!r}")
    hair, pattern, ears, tail = (attributes[group] for group, _ in columns)

    def around(middle, spread):
        return middle + spread * (2.0 * rng.random() - 1.0)

    # The pose: body coordinates u, v and head coordinates hx, hy [S, S].
    at = (2.0 * np.arange(size, dtype=np.float32) + 1.0) / size - 1.0
    canvas, scale, facing = backdrop(rng, at), around(0.87, 0.16), 1.0 if rng.random() < 0.5 else -1.0
    reach, soft = 0.06 + 0.6 * (1.03 - scale), 2.0 / (size * scale)  # small ones stray further
    x, y = (at - around(0.0, reach)) * (facing / scale), (at[:, None] - around(0.04, reach)) / scale
    u, v = turn(x, y, around(0.0, 0.12))
    hx, hy = turn(u - around(-0.14, 0.1), v - around(-0.26, 0.08), around(0.0, 0.16))

    # The colours. Long hair bends the coordinates of everything furry into a fringe.
    face, girth, eye, muzzle = (around(trait, 0.02) for trait in LOOKS.get(breed, (0.12, 0.3, 0.2, 0.12)))
    hue, saturation, value = COATS[int(rng.random() * len(COATS))]
    hue, saturation, value = around(hue, 0.03), around(saturation, 0.1), around(value, 0.12)
    coat, light = hsv(hue, saturation, value), hsv(hue, 0.5 * saturation, value + 0.2)
    mark = hsv(hue - 0.02, saturation + 0.15, value * around(0.46, 0.1))
    line, dark, iris = hsv(hue, 0.4, 0.35 * value), hsv(hue, 0.3, 0.1), hsv(eye, 0.7, 0.85)
    bend, strands = noise(rng, at, 26), noise(rng, at, 30)
    fringe, puff = (0.08, 0.05) if hair in ("Longhair", "Shaggy Coat") else (0.0, 0.0)
    fu, fv, fx, fy = u + fringe * bend, v + fringe * strands, hx + fringe * bend, hy + fringe * strands
    on_torso, on_head, on_ears, on_tail = markings(pattern, rng, fu, fv, fx, fy)
    sheen = 1.0 + (0.03 + 2.5 * puff) * strands

    def fur(inside, marked, base=coat):  # with a dark outline
        paint(canvas, inside + 0.05, soft, line)
        paint(canvas, inside, soft, sheen * (base + marked * (mark - base)))

    # Back to front: tail, torso with legs, ruff, ears, head, face.
    fur(depth(*turn(fu - 0.36, fv - 0.6, around(0.0, 0.12)), *SHAPES[tail]) + 0.5 * puff, on_tail)
    torso = depth(fu, fv, (0.2, 0.52, girth), (-0.08, 0.16, 0.8 * girth))
    legs = [depth(fu, fv, (leg, 0.3, 0.1), (leg, 0.8, 0.085)) for leg in (-0.22, -0.02)]
    fur(np.maximum.reduce([torso, *legs, depth(fu, fv, (0.12, 0.8, 0.1), (0.34, 0.78, 0.09))]) + puff, on_torso)
    ear = depth(np.abs(hx + 0.5 * fringe * bend), hy + 0.5 * fringe * strands, *SHAPES[ears]) + 0.4 * puff
    skull = depth(fx, fy, (-face, 0.0, 0.3), (face, 0.0, 0.3)) + 0.5 * puff
    if puff:
        fur(depth(fu, fv, (-0.12, 0.0, 0.26), (-0.12, 0.32, 0.1)), 0.3 * on_torso, light)
        skull = np.maximum(skull, depth(np.abs(fx), fy, (0.2, 0.1, 0.22), (0.45, 0.2, 0.06)))
    if ears in ("Upright Ears", "Pricked Ears"):
        fur(ear, on_ears)
        paint(canvas, ear - 0.07, soft, hsv(0.0, 0.35, 0.8 * value + 0.1))
    fur(skull, on_head)
    if ears in ("Folded Ears", "Drop Ears"):
        fur(ear, on_ears, 0.8 * coat)
    hx = hx - around(0.0, 0.04)  # it looks a little aside
    ax = np.abs(hx)
    if species == "cat":
        snout = mark if pattern == "Point-Color" else light
        paint(canvas, depth(ax, hy, (0.0, 0.14, 0.08), (0.07, 0.16, 0.08)), soft, snout)
        paint(canvas, depth(ax, hy, (0.0, 0.09, 0.04), (0.03, 0.09, 0.04)), soft, hsv(0.98, 0.45, 0.8))
        paint(canvas, depth(ax, hy, (0.17, -0.05, 0.095)), soft, iris)
    else:
        fur(depth(hx, hy, (0.0, 0.1, 0.14), (0.0, 0.1 + muzzle, 0.12)), 0.0, light)
        paint(canvas, depth(ax, hy, (0.0, 0.08, 0.06), (0.05, 0.08, 0.06)), soft, dark)
        paint(canvas, depth(ax, hy, (0.18, -0.08, 0.085)), soft, 0.4 * iris)
    paint(canvas, depth(ax, hy, (0.17, -0.1, 0.04), (0.17, -0.03, 0.04)), soft, dark)
    paint(canvas, depth(ax, hy, (0.14, -0.09, 0.03)), soft, 1.0)

    # Often a leaf in front; then light from one side, and grain.
    if rng.random() < 0.4:
        leaf = (around(0.0, 0.9), 1.1, 0.15), (around(0.0, 0.9), around(0.1, 0.5), 0.03)
        paint(canvas, depth(at, at[:, None], *leaf), soft, hsv(around(0.3, 0.1), 0.5, around(0.5, 0.2)))
    canvas *= around(1.0, 0.2) + around(0.0, 0.2) * at + around(0.0, 0.2) * at[:, None]
    canvas += (0.16 * rng.random((3, size, size)) - 0.08).astype(np.float32)
    return (255.0 * np.clip(canvas, 0.0, 1.0) + 0.5).astype(np.uint8).transpose(1, 2, 0)
