"""An independent opinion on who gets what: the rules of allocation in plain dicts, sharing no code with the service.

A dict keeps the order of arrival, which is the age of a line; batches are kept in order of preference.
"""

from collections import defaultdict


class Oracle:
    def __init__(self):
        self.batches = defaultdict(dict)  # sku -> reference -> [eta ("": on hand), quantity, taken]
        self.lines = defaultdict(dict)  # sku -> order -> [quantity, reference or None: it waits], oldest first
        self.sku_of = {}

    def create_batch(self, ref, sku, qty, eta):
        self.sku_of[ref] = sku
        self.batches[sku][ref] = [eta or "", qty, 0]
        self.sort(sku)
        self.serve(sku)

    def allocate(self, orderid, sku, qty):
        if orderid not in self.lines[sku]:
            self.lines[sku][orderid] = [qty, None]
            self.place(sku, self.lines[sku][orderid])

    def deallocate(self, orderid, sku):
        self.take_off(sku, self.lines[sku].pop(orderid))
        self.serve(sku)

    def change_quantity(self, ref, qty):
        batch = self.batches[self.sku_of[ref]][ref]
        for line in reversed(self.lines[self.sku_of[ref]].values()):
            if batch[2] > qty and line[1] == ref:
                self.take_off(self.sku_of[ref], line)
        batch[1] = qty
        self.serve(self.sku_of[ref])

    def change_eta(self, ref, eta):
        self.batches[self.sku_of[ref]][ref][0] = eta or ""
        self.sort(self.sku_of[ref])

    def sort(self, sku):
        self.batches[sku] = dict(sorted(self.batches[sku].items(), key=lambda item: (item[1][0], item[0])))

    def serve(self, sku):
        for line in self.lines[sku].values():
            if line[1] is None:
                self.place(sku, line)

    def place(self, sku, line):
        for ref, batch in self.batches[sku].items():
            if batch[1] - batch[2] >= line[0]:
                line[1], batch[2] = ref, batch[2] + line[0]
                return

    def take_off(self, sku, line):
        if line[1] is not None:
            self.batches[sku][line[1]][2] -= line[0]
            line[1] = None
