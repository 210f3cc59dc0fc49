"""Reads `.parquet`: one row a sample; its metadata is weighed before a page is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from service.contract.request import DatasetSpec
from worker.engine.intake.complaints import (
    quoted,
    refuse,
    refuse_size,
    refuse_unreadable,
)
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.raw import AnyArray, Raw
from worker.engine.intake.tables import (
    Columns,
    GrowingTable,
    choose_columns,
    divide_table,
    text_in,
)

_METADATA_BYTES = 64 << 20
_BATCH_ROWS = 65_536
_INDEX = "__index_level_"  # how pandas stores an index


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        refuse_unreadable(f"the file cannot be read as parquet: {quoted(error, 200)}")


def read_parquet(file: BinaryIO, spec: DatasetSpec, limits: IntakeLimits) -> Raw:
    """Read a table.

    Raises:
        Problem: see `worker.engine.intake.reader`.
    """
    with _reading():
        source = parquet.ParquetFile(
            file,
            thrift_string_size_limit=_METADATA_BYTES,
            thrift_container_size_limit=10_000_000,
        )
        schema = source.schema_arrow
    names = [name for name in schema.names if not name.startswith(_INDEX)]
    if not names:
        refuse("the table has no columns")
    columns = choose_columns(names, spec, limits)
    _check_types(schema, columns)
    _check_sizes(source.metadata, columns, limits)
    words = [columns.label, *([columns.split] if columns.split else [])]
    with _reading():
        # As a dictionary, so that a long word in many rows stands there once.
        source = parquet.ParquetFile(file, read_dictionary=words)
        x, labels, splits = _read(source, columns, limits)
    raw = divide_table(x, labels, splits, columns)
    if len(names) < len(schema.names):
        raw.notes.append("The stored index of the table was left out.")
    return raw


def _check_types(schema: pa.Schema, columns: Columns) -> None:
    for name in filter(None, (columns.label, columns.split)):
        kind = schema.field(name).type
        if pa.types.is_nested(kind):
            refuse(
                f"column {quoted(name)} is of type {quoted(kind)}; one name or number "
                "a row is expected"
            )
    for name in columns.features:
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            refuse(
                f"column {quoted(name)} holds text where numbers belong; encode it as "
                "numbers, or leave the column out with spec.features"
            )
        if not _is_number(kind):
            refuse(
                f"column {quoted(name)} is of type {quoted(kind)} where numbers "
                "belong; leave the column out with spec.features"
            )


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def _check_sizes(
    metadata: parquet.FileMetaData, columns: Columns, limits: IntakeLimits
) -> None:
    """Weigh the table by its metadata, which is small whatever the pages hold."""
    cells = metadata.num_rows * len(columns.features)
    announced = max(4 * cells, 8 * metadata.num_rows)
    wanted = {*columns.features, columns.label, columns.split}
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for column in range(group.num_columns):
            chunk = group.column(column)
            if chunk.path_in_schema in wanted:
                announced = max(announced, chunk.total_uncompressed_size)
    if announced > limits.total_bytes:
        refuse_size(
            "the table in memory",
            found=announced,
            allowed=limits.total_bytes,
            unit="bytes",
        )


def _read(
    source: parquet.ParquetFile, columns: Columns, limits: IntakeLimits
) -> tuple[AnyArray, AnyArray, AnyArray | None]:
    table = GrowingTable(len(columns.features), limits)
    labels: list[AnyArray] = [np.empty(0, dtype=object)]
    splits: list[AnyArray] = [np.empty(0, dtype=object)]
    wanted = [*columns.features, columns.label]
    if columns.split is not None:
        wanted.append(columns.split)
    row = 0
    for batch in source.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
        table.add(
            [_numbers(batch.column(name), name, row) for name in columns.features],
            batch.num_rows,
        )
        labels.append(_words(batch.column(columns.label)))
        if columns.split is not None:
            splits.append(_words(batch.column(columns.split)))
        row += batch.num_rows
    joined = _join(labels)
    return table.finish(), joined, _join(splits) if columns.split else None


def _join(parts: list[AnyArray]) -> AnyArray:
    filled = [part for part in parts if len(part)]
    return np.concatenate(filled) if filled else parts[0]


def _numbers(column: pa.Array, name: str, before: int) -> AnyArray:
    try:
        cast = column.cast(pa.float32(), safe=False)
    except pa.ArrowException:
        text_in(name, before + 1, column[0])
    numbers: AnyArray = cast.to_numpy(zero_copy_only=False)
    return numbers


def _words(column: pa.Array) -> AnyArray:
    """Take labels or splits as they are: numbers where they are, else objects."""
    if pa.types.is_dictionary(column.type):
        # The last word stands for a missing one.
        words = np.array([*column.dictionary.to_pylist(), None], dtype=object)
        indices = column.indices.fill_null(len(words) - 1)
        taken: AnyArray = words[indices.to_numpy(zero_copy_only=False)]
        return taken
    values: AnyArray = column.to_numpy(zero_copy_only=False)
    return values
