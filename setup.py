"""Build of the C++ core; everything else about the package stands in pyproject.toml."""

from glob import glob

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup

ParallelCompile("FASTGENOME_BUILD_JOBS", default=2).install()

# gcc 12 takes the undefined registers of its own AVX-512 headers for uninitialized variables.
QUIET = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]

core = Pybind11Extension(
    "fastgenome._core",
    sorted(glob("csrc/bindings/*.cpp")),
    include_dirs=["csrc/include"],
    depends=sorted(glob("csrc/include/fastgenome/*.hpp") + glob("csrc/bindings/*.hpp")),
    cxx_std=20,
    # gcc 12 vectorises the core loops only from -O3 on. No -march=native: a wheel must run elsewhere. Without
    # contraction of products and sums, or the same loop would round differently by instruction set.
    extra_compile_args=["-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread", *QUIET],
    extra_link_args=["-pthread"],
)

setup(
    packages=[
        "fastgenome",
        "fastgenome.adapters",
        "fastgenome.features",
        "fastgenome.kernels",
        "fastgenome.models",
        "fastgenome.models.tiny_weights",
        "fastgenome.plotting",
        "fastgenome.plotting.igv",
        "fastgenome.scoring",
        "fastgenome.tokenizers",
        "fastgenome.training",
    ],
    # fastgenome/kernels is a link to kernels/; this line serves systems that have no links.
    package_dir={"fastgenome.kernels": "kernels"},
    package_data={
        "fastgenome": ["py.typed", "_core.pyi"],
        "fastgenome.models": ["published_figures.json"],
        "fastgenome.models.tiny_weights": ["config.json", "model.safetensors"],
        "fastgenome.plotting.igv": ["igv.min.js", "page.js", "LICENSE", "README.md"],
    },
    ext_modules=[core],
)
