"""The folder `receipts/` of a report: which file belongs to which smoke run, and how it is replaced."""

from __future__ import annotations

from pathlib import Path

from pytest_smoke.files import file_name, remove, write_atomic
from pytest_smoke.receipts.receipt import Receipt
from pytest_smoke.receipts.signing import NAMESPACE, sign

FOLDER = "receipts"
"""Folder of the receipts in a report folder."""
REFUSED = "refused"
"""Folder in it for the records of smoke runs that were not promoted, which an override starts from."""


def receipt_of(item_id: str) -> str:
    """Return the file of an item's receipt, relative to the folder of receipts."""
    return f"{file_name(item_id)}.json"


def signature_of(receipt: Path) -> Path:
    """Return the file with the signature of a receipt."""
    return receipt.with_name(f"{receipt.name}.sig")


class ReceiptsFolder:
    """Keeps the receipts in a report folder: each belongs to the newest verdict on its smoke run."""

    def __init__(self, report: Path, *, key: Path | None = None) -> None:
        self._report, self._key = report, key
        self._seen: set[str] = set()

    def add(self, item_id: str, receipt: Receipt | None) -> None:
        """Write the receipt of a promotion, or the record of another verdict; None removes both.

        A second run of the item in one session gets none: rerunning until one passes proves nothing. Raises OSError,
        and SigningError; no receipt is left then.
        """
        again = item_id in self._seen
        self._seen.add(item_id)
        remove_receipt(self._report, item_id)
        if receipt is None or (again and receipt.verdict == "promote"):
            return
        folder = self._report / FOLDER / ("" if receipt.verdict == "promote" else REFUSED)
        write(folder / receipt_of(item_id), receipt, key=self._key)


def remove_receipt(report: Path, item_id: str) -> None:
    """Remove the receipt of an item, and the record of one that was not promoted. Raises OSError."""
    for folder in (report / FOLDER, report / FOLDER / REFUSED):
        path = folder / receipt_of(item_id)
        remove(path)  # the receipt first: a signature alone proves nothing
        remove(signature_of(path))


def write(path: Path, receipt: Receipt, *, key: Path | None, namespace: str = NAMESPACE) -> None:
    """Write a receipt, and its signature if there is a key. Raises OSError and SigningError."""
    text = receipt.to_text()
    signature = sign(text.encode(), key, namespace=namespace) if key is not None else None
    if signature is None:
        signature_of(path).unlink(missing_ok=True)
    else:
        write_atomic(signature_of(path), signature)
    write_atomic(path, text)
