"""Between what callers give and get, and the messages of the proto.

The descriptors are in a pool of their own, so that nothing else in the process that was
generated from the same proto, in this version or another, is in the way; and so that any
version of protobuf serves.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ._errors import argument, word
from ._generated.descriptors import FILES
from ._generated.types import BY_NAME

_Type = TypeVar("_Type")

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MICROSECOND = datetime.timedelta(microseconds=1)
# Above it not every whole number is one of JSON.
_LARGEST = 2**53


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(FILES).file:
        pool.Add(file)
    return pool


_POOL = _pool()


def message_class(name: str) -> type[Message]:
    """The class of messages of that full name."""
    return GetMessageClass(_POOL.FindMessageTypeByName(name))


def to_message(name: str, values: Mapping[str, Any]) -> Message:
    """A message with these values; None is as not given.

    Raises:
        TypeError, ValueError: A value that the message cannot have, with the argument's name.
    """
    message = message_class(name)()
    _fill(message, values, "")
    return message


def serialized(message: Message) -> bytes:
    """The bytes of a message."""
    return message.SerializeToString()


def _fill(message: Message, values: Mapping[str, Any], path: str) -> None:
    for name, value in values.items():
        if value is not None:
            field = message.DESCRIPTOR.fields_by_name[name]
            _set(message, field, value, f"{path}{name}")


def _is(value: Any, *kinds: type) -> bool:
    # A function of its own, so that what callers gave stays Any for who checks the types.
    return isinstance(value, kinds)


def _is_repeated(field: Any) -> bool:
    try:
        found: bool = field.is_repeated
    except AttributeError:  # In protobuf 5.
        found = field.label == field.LABEL_REPEATED
    return found


def _set(message: Message, field: Any, value: Any, path: str) -> None:
    there = getattr(message, field.name)
    if _is_repeated(field):
        if _is(value, str, bytes) or not _is(value, Iterable):
            raise TypeError(f"{argument(path)}: must be a list, is {value!r}")
        for at, one in enumerate(value):
            within = f"{path}[{at}]"
            if field.message_type is not None:
                _fill_one(there.add(), one, within)
            else:
                _put(there.append, one, within)
    elif field.message_type is not None:
        there.SetInParent()
        _fill_one(there, value, path)
    elif field.enum_type is not None:
        _put(partial(setattr, message, field.name), _number(field.enum_type, value, path), path)
    else:
        _put(partial(setattr, message, field.name), value, path)


def _put(put: Callable[[Any], None], value: Any, path: str) -> None:
    try:
        put(value)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise type(error)(f"{argument(path)}: cannot be {value!r} ({kind}): {error}") from None


def _fill_one(message: Any, value: Any, path: str) -> None:
    name: str = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp":
        if not _is(value, datetime.datetime) or value.tzinfo is None:
            raise TypeError(f"{argument(path)}: must be a datetime with a time zone, is {value!r}")
        seconds, micros = divmod((value - _EPOCH) // _MICROSECOND, 1_000_000)
        message.seconds, message.nanos = seconds, micros * 1000
    elif name == "google.protobuf.Duration":
        if not _is(value, datetime.timedelta):
            raise TypeError(f"{argument(path)}: must be a timedelta, is {value!r}")
        micros = value // _MICROSECOND
        sign = -1 if micros < 0 else 1
        seconds, micros = divmod(abs(micros), 1_000_000)
        message.seconds, message.nanos = sign * seconds, sign * micros * 1000
    elif name == "google.protobuf.Struct":
        if not _is(value, Mapping):
            raise TypeError(f"{argument(path)}: must be a dict, is {value!r}")
        _fill_struct(message, value, path)
    elif name == "google.protobuf.FieldMask":
        message.paths.extend(value)
    else:
        kind = BY_NAME[name]
        if _is(value, kind):
            fields = message.DESCRIPTOR.fields
            value = {field.name: getattr(value, word(field.name)) for field in fields}
        if not _is(value, dict):
            raise TypeError(f"{argument(path)}: must be of the type {kind.__name__}, is {value!r}")
        _fill(message, value, f"{path}.")


def _fill_struct(message: Any, value: Mapping[Any, Any], path: str) -> None:
    message.SetInParent()
    for key, one in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{argument(path)}: keys must be strings, one is {key!r}")
        _fill_value(message.fields[key], one, f"{path}.{key}")


def _fill_value(message: Any, value: Any, path: str) -> None:
    if value is None:
        message.null_value = 0
    elif _is(value, bool):
        message.bool_value = value
    elif _is(value, int, float):
        if not math.isfinite(value) or (_is(value, int) and abs(value) > _LARGEST):
            raise ValueError(
                f"{argument(path)}: JSON has no such number, give it as a string: {value!r}"
            )
        message.number_value = value
    elif _is(value, str):
        message.string_value = value
    elif _is(value, Mapping):
        _fill_struct(message.struct_value, value, path)
    elif _is(value, list, tuple):
        message.list_value.SetInParent()
        for at, one in enumerate(value):
            _fill_value(message.list_value.values.add(), one, f"{path}[{at}]")
    else:
        kind = type(value).__name__
        raise TypeError(f"{argument(path)}: JSON has nothing of the type {kind}: {value!r}")


def _prefix(enum: Any) -> str:
    # What is unspecified is the first of each.
    name: str = enum.values_by_number[0].name
    return name.removesuffix("UNSPECIFIED")


def _number(enum: Any, value: Any, path: str) -> int:
    name = value.value if isinstance(value, Enum) else value
    found = enum.values_by_name.get(f"{_prefix(enum)}{name}")
    if found is None:
        kind = BY_NAME[enum.full_name].__name__
        raise ValueError(f"{argument(path)}: {kind} has no {value!r}")
    number: int = found.number
    return number


def from_message(kind: type[_Type], message: Any) -> _Type:
    """What a message says, as its class: what is absent is None, and so is a value of an enum
    that this version does not know."""
    values: dict[str, Any] = {}
    of: Any = kind
    optional = {field.name for field in dataclasses.fields(of) if field.default is None}
    for field in message.DESCRIPTOR.fields:
        name = word(field.name)
        value = getattr(message, field.name)
        if name in optional and field.has_presence and not message.HasField(field.name):
            values[name] = None
        elif _is_repeated(field):
            values[name] = [_from(field, one) for one in value]
        else:
            values[name] = _from(field, value)
    return kind(**values)


def _from(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        if known is None or known.number == 0:
            return None
        return BY_NAME[field.enum_type.full_name](known.name.removeprefix(_prefix(field.enum_type)))
    if field.message_type is None:
        return value
    match field.message_type.full_name:
        case "google.protobuf.Timestamp":
            micros = datetime.timedelta(microseconds=value.nanos // 1000)
            return _EPOCH + datetime.timedelta(seconds=value.seconds) + micros
        case "google.protobuf.Duration":
            return datetime.timedelta(
                seconds=value.seconds, microseconds=int(value.nanos / 1000)
            )
        case "google.protobuf.Struct":
            return {key: _from_value(one) for key, one in value.fields.items()}
        case name:
            return from_message(BY_NAME[name], value)


def _from_value(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "string_value":
            return value.string_value
        case "number_value":
            number: float = value.number_value
            # They came as JSON, which has one kind of number.
            return int(number) if number.is_integer() and abs(number) <= _LARGEST else number
        case "struct_value":
            return {key: _from_value(one) for key, one in value.struct_value.fields.items()}
        case "list_value":
            return [_from_value(one) for one in value.list_value.values]
        case _:
            return None
