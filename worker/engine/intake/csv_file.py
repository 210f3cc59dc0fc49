"""Reads `.csv`: one row a sample, in blocks, with the first wrong value named."""

import codecs
import csv
from typing import BinaryIO, NoReturn

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from service.contract.request import DatasetSpec
from worker.engine.intake.complaints import quoted, refuse, refuse_unreadable
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.raw import MISSING, AnyArray, Raw, is_number, number_in
from worker.engine.intake.tables import (
    Columns,
    GrowingTable,
    choose_columns,
    divide_table,
    text_in,
)

_HEADER_BYTES = 4 << 20
_BLOCK_BYTES = 8 << 20
_DELIMITERS = ",;\t"
_BOOLEANS = {"true": 1.0, "false": 0.0}


def read_csv(file: BinaryIO, spec: DatasetSpec, limits: IntakeLimits) -> Raw:
    """Read a table with a header.

    Raises:
        Problem: see `worker.engine.intake.reader`.
    """
    names, delimiter = _read_header(file)
    columns = choose_columns(names, spec, limits)
    try:
        table, labels, splits = _read_numbers(file, columns, delimiter, limits)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            _broken(error)
        # Slower: a column that was not all numbers, so either yes and no, or text.
        table, labels, splits = _read_text(file, columns, delimiter, limits)
    raw = divide_table(table, labels, splits, columns)
    if delimiter != ",":
        shown = "tabs" if delimiter == "\t" else quoted(delimiter)
        raw.notes.append(f"Columns are divided by {shown}.")
    return raw


def _read_header(file: BinaryIO) -> tuple[list[str], str]:
    file.seek(0)
    line = file.readline(_HEADER_BYTES)
    if len(line) == _HEADER_BYTES:
        refuse_unreadable("the first line is no header: it does not end")
    try:
        text = line.removeprefix(codecs.BOM_UTF8).decode("utf-8").strip("\r\n")
    except UnicodeDecodeError:
        refuse_unreadable("the file is no UTF-8 text")
    if "\r" in text:
        refuse_unreadable(
            "the header line holds a carriage return; lines are to end with LF or CRLF"
        )
    if not text.strip() or "\0" in text:
        refuse_unreadable("the file has no header line with the names of the columns")
    delimiter = max(_DELIMITERS, key=text.count)
    try:
        names = next(csv.reader([text], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration) as error:
        refuse_unreadable(f"the header line cannot be read: {error}")
    if all(is_number(name) for name in names):
        refuse(
            f"the first line holds numbers ({quoted(text)}); a header line with the "
            "names of the columns is expected"
        )
    if len(names) == 1:
        refuse(f"the table has one column only, {quoted(names[0])}")
    return names, delimiter


def _broken(error: Exception) -> NoReturn:
    text = str(error)
    if "UTF8" in text:
        refuse_unreadable("the file is no UTF-8 text")
    refuse_unreadable(f"the table cannot be read: {quoted(text, 200)}")


def _open(
    file: BinaryIO, columns: Columns, delimiter: str, kind: pa.DataType
) -> arrow_csv.CSVStreamingReader:
    file.seek(0)
    others = [columns.label, *([columns.split] if columns.split else [])]
    return arrow_csv.open_csv(
        pa.PythonFile(file, mode="r"),
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        parse_options=arrow_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=[*columns.features, *others],
            column_types={
                **dict.fromkeys(columns.features, kind),
                **dict.fromkeys(others, pa.string()),
            },
            null_values=list(MISSING),
            strings_can_be_null=False,
        ),
    )


Parts = tuple[AnyArray, AnyArray, AnyArray | None]


def _read_numbers(
    file: BinaryIO, columns: Columns, delimiter: str, limits: IntakeLimits
) -> Parts:
    table = GrowingTable(len(columns.features), limits)
    words = _Words(columns)
    with _open(file, columns, delimiter, pa.float32()) as reader:
        for batch in reader:
            table.add(
                [
                    batch.column(index).to_numpy(zero_copy_only=False)
                    for index in range(len(columns.features))
                ],
                batch.num_rows,
            )
            words.add(batch)
    return table.finish(), *words.finish()


def _read_text(
    file: BinaryIO, columns: Columns, delimiter: str, limits: IntakeLimits
) -> Parts:
    """Read every feature as text, and find out what it is.

    Raises:
        UnusableDataset: one is text; names the column and the first such row.
    """
    table = GrowingTable(len(columns.features), limits)
    words = _Words(columns)
    row = 0
    try:
        with _open(file, columns, delimiter, pa.string()) as reader:
            for batch in reader:
                table.add(
                    [
                        _numbers(batch.column(index), name, row)
                        for index, name in enumerate(columns.features)
                    ],
                    batch.num_rows,
                )
                words.add(batch)
                row += batch.num_rows
    except pa.ArrowInvalid as error:
        _broken(error)
    return table.finish(), *words.finish()


def _numbers(column: pa.Array, name: str, before: int) -> AnyArray:
    values = np.empty(len(column), np.float32)
    for index, word in enumerate(column.to_pylist()):
        text = word.strip()
        if text in MISSING:
            values[index] = np.nan
        elif text.lower() in _BOOLEANS:
            values[index] = _BOOLEANS[text.lower()]
        else:
            try:
                with np.errstate(over="ignore"):
                    values[index] = number_in(text)
            except ValueError:
                text_in(name, before + index + 1, word)
    return values


class _Words:
    """Labels and splits, block by block; equal words are held once."""

    def __init__(self, columns: Columns) -> None:
        self._label = columns.label
        self._split = columns.split
        self._labels: list[AnyArray] = []
        self._splits: list[AnyArray] = []

    def add(self, batch: pa.RecordBatch) -> None:
        self._labels.append(self._held_once(batch.column(self._label)))
        if self._split is not None:
            self._splits.append(self._held_once(batch.column(self._split)))

    @staticmethod
    def _held_once(column: pa.Array) -> AnyArray:
        encoded = column.dictionary_encode()
        words = np.array(encoded.dictionary.to_pylist(), dtype=object)
        taken: AnyArray = words[encoded.indices.to_numpy(zero_copy_only=False)]
        return taken

    def finish(self) -> tuple[AnyArray, AnyArray | None]:
        empty: AnyArray = np.empty(0, dtype=object)
        labels = np.concatenate([empty, *self._labels])
        splits = np.concatenate([empty, *self._splits]) if self._split else None
        return labels, splits
