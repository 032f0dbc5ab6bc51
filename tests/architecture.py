"""Contracts of our own for import-linter; pyproject.toml names them."""

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OnlyTheseVendors(Contract):
    """A package imports the standard library, this project, and the vendors it was allowed. Nothing else.

    import-linter's own `forbidden` needs a list of what is forbidden, which a new dependency would not be on.
    """

    package = fields.StringField()
    vendors = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        package = str(self.package)
        ours = package.partition(".")[0]
        vendors: Any = self.vendors  # import-linter puts the configured value where the class has a field
        allowed = sys.stdlib_module_names | set(vendors) | {ours}
        trespasses = [
            (module, vendor, graph.get_import_details(importer=module, imported=vendor))
            for module in sorted({package} | graph.find_descendants(package))
            for vendor in sorted(graph.find_modules_directly_imported_by(module))
            if vendor.partition(".")[0] not in allowed
        ]
        return ContractCheck(kept=not trespasses, metadata={"trespasses": trespasses})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for module, vendor, details in check.metadata["trespasses"]:
            lines = ", ".join(f"l.{detail['line_number']}" for detail in details)
            output.print_error(f"{module} may not import {vendor} ({lines})")
