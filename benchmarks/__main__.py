"""`python -m benchmarks`: prints the tables. `--write` puts them into RESULTS.md."""

import argparse
import sys
from dataclasses import replace

from benchmarks import (
    bulk,
    curves,
    domain_speed,
    flat,
    hot_products,
    kafka_speed,
    over_http,
    report,
    rules_speed,
    streams,
    time_machine,
    variants,
    verifying,
)
from benchmarks.databases import KINDS, Databases, Kind
from benchmarks.measure import Table, machine

PARTS = ("http", "bulk", "flat", "domain", "streams", "kafka", "rules", "verify", "time", "curves", "hot")


def main() -> None:
    options = _options()
    kinds: tuple[Kind, ...] = (options.database,) if options.database else KINDS
    circumstances = {"command": report.command("benchmarks")} | machine()
    with Databases() as databases:
        circumstances |= databases.versions(kinds)
        tables = [table for part in options.only or PARTS for table in _run(part, databases, kinds, options)]
    print(report.as_json(tables, circumstances) if options.json else report.text(tables, circumstances))
    if options.write:
        report.write(tables, circumstances)
        curves.draw(tables)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[*PARTS, "variants"], help="these parts only (variants runs only if named)"
    )
    parser.add_argument("--database", choices=KINDS, help="only this database")
    parser.add_argument("--rounds", type=int, help="rounds of http, bulk, streams and kafka")
    parser.add_argument("--seconds", type=float, help="seconds of one round of http")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to show that it runs; the figures mean nothing"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/RESULTS.md")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--quick figures mean nothing; they are not written")
    return options


def _run(part: str, databases: Databases, kinds: tuple[Kind, ...], options: argparse.Namespace) -> list[Table]:
    verified = verifying.Size()
    http, in_bulk, one, alone = over_http.Size(), bulk.Size(), flat.Size(), domain_speed.Size()
    over_streams, over_kafka = streams.Size(), kafka_speed.Size()
    ruled = rules_speed.Size()
    past = time_machine.Size()
    over = curves.Size()
    if options.quick:
        http, in_bulk = over_http.Size(1, 0.3, 0.1), bulk.Size(1, 1_000)
        one, alone = flat.Size(1_000, 500, 5), domain_speed.Size(2, 2_000)
        over_streams = streams.Size(1, 0.5, 100.0, 2_000)
        ruled = rules_speed.Size(2, 1_000)
        verified = verifying.Size((1_000,), 1)
        over_kafka = kafka_speed.Size(1, 2_000)
        past = time_machine.Size(10_000, 4_000, 20, 100, 8, 1)
        over = curves.Size((10, 100), (1, 10), (1, 10), (1, 2), (1, 10), 5, 200, 0.2, 1)
    if options.rounds:
        http, in_bulk = replace(http, rounds=options.rounds), replace(in_bulk, rounds=options.rounds)
        over_streams = replace(over_streams, rounds=options.rounds)
        over_kafka = replace(over_kafka, rounds=options.rounds)
    if options.seconds:
        http = replace(http, seconds=options.seconds)
    match part:
        case "http":
            return over_http.tables(databases, kinds, http)
        case "bulk":
            return bulk.tables(databases, kinds, in_bulk)
        case "flat":
            return flat.tables(databases, kinds, one)
        case "domain":
            return domain_speed.tables(alone)
        case "streams":
            return streams.tables(databases, kinds, over_streams)
        case "kafka":
            return kafka_speed.tables(databases, kinds, over_kafka)
        case "rules":
            return rules_speed.tables(ruled)
        case "time":
            return time_machine.tables(databases, kinds, past)
        case "curves":
            return curves.tables(databases, kinds, over)
        case "hot":
            return hot_products.tables(databases, kinds, hot_products.Size(in_bulk, http))
        case "verify":
            return verifying.tables(databases, kinds, verified)
        case _:
            return variants.tables(databases, kinds, http, in_bulk)


if __name__ == "__main__":
    sys.exit(main())
