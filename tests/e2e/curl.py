"""A stand-in for curl where a machine has none: as much of it as the README uses, and nothing else."""

import argparse
import http.client
import sys
from urllib.parse import urlsplit


def main() -> None:
    parser = argparse.ArgumentParser(prog="curl", add_help=False)
    parser.add_argument("-s", action="store_true", required=True)  # it shows no progress anyway
    parser.add_argument("-w", default="")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d")
    parser.add_argument("-X")
    parser.add_argument("url")
    wanted = parser.parse_args()
    url = urlsplit(wanted.url)
    assert url.scheme == "http"
    assert url.hostname is not None
    method = wanted.X or ("GET" if wanted.d is None else "POST")
    # Like curl, which takes the line breaks out of data only where it reads them from a file.
    body = None if wanted.d is None else wanted.d.encode()
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    path = url.path + (f"?{url.query}" if url.query else "")
    connection.request(method, path, body, dict(header.split(": ", 1) for header in wanted.H))
    response = connection.getresponse()
    sys.stdout.write(response.read().decode())
    sys.stdout.write(wanted.w.replace("%{http_code}", str(response.status)).replace(r"\n", "\n"))


if __name__ == "__main__":
    main()
