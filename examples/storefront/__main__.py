"""`python -m examples.storefront --allocation http://127.0.0.1:5005`"""

from __future__ import annotations

import argparse
import logging
import signal
from pathlib import Path
from threading import Thread

from werkzeug.serving import make_server

from examples.storefront.following import Following, Listening
from examples.storefront.shop import create_shop
from examples.storefront.stock_copy import StockCopy

_log = logging.getLogger("storefront")


def main() -> None:
    """Follows the allocation service and serves shoppers, until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.storefront", description=main.__doc__)
    parser.add_argument("--allocation", default="http://127.0.0.1:5005", metavar="URL", help="the allocation service")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5006)
    parser.add_argument("--file", type=Path, default=Path("storefront.db"), help="where the copy is kept")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="how often to ask for changes")
    parser.add_argument("--redis", metavar="URL", help="also listen to stock_level messages here")
    parser.add_argument("--channel", default="allocation:stock_level", help="the Redis channel of these messages")
    wanted = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)

    copy = StockCopy(wanted.file)
    threads: list[Following | Listening] = [following := Following(copy, wanted.allocation, wanted.every)]
    if wanted.redis:
        threads.append(Listening(copy, wanted.redis, wanted.channel))
    server = make_server(wanted.host, wanted.port, create_shop(copy, lambda: following.trouble), threaded=True)

    def stop(*_: object) -> None:
        Thread(target=server.shutdown).start()  # it waits for the loop that this handler interrupts

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for thread in threads:
        thread.start()
    _log.info("http://%s:%d shows what %s has", wanted.host, wanted.port, wanted.allocation)
    server.serve_forever()
    for thread in threads:
        thread.stop()
    server.server_close()


if __name__ == "__main__":
    main()
