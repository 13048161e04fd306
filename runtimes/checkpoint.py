"""What a checkpoint is already quantised with, from the files beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from runtimes._json_config import Fields, JsonMapping, load_json
from runtimes.errors import UserError
from runtimes.quantization import CheckpointQuantization, Precision

CONFIG = "config.json"
MODELOPT_CONFIG = "hf_quant_config.json"

_FLOAT_FORMATS: Mapping[str, Precision] = {
    "tensor": "fp8",
    "channel": "fp8_channel",
    "token": "fp8_channel",
    "block": "fp8_block",
    "group": "mxfp8",
}
"""Strategy of an 8-bit float in compressed-tensors → format."""

_MODELOPT: Mapping[str, tuple[str, Precision | None]] = {
    "FP8": ("modelopt", "fp8"),
    "FP8_PER_CHANNEL_PER_TOKEN": ("modelopt", "fp8_channel"),
    "FP8_PB_WO": ("modelopt", "fp8_block"),
    "NVFP4": ("modelopt_fp4", "nvfp4"),
    "NVFP4_AWQ": ("modelopt_fp4", "nvfp4"),
    "MXFP8": ("modelopt_mxfp8", "mxfp8"),
    "W4A16_AWQ": ("modelopt", "int4"),
    "W4A8_AWQ": ("modelopt", "int4"),
    "INT8_SQ": ("modelopt", "int8"),
}
"""ModelOpt's `quant_algo` → the engines' name of the method, and the format of the weights."""

_MODELOPT_METHODS = frozenset({"modelopt", "modelopt_fp8", "modelopt_fp4", "modelopt_mixed"})
_QUARK: Mapping[str, Precision] = {
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8_e5m2",
    "int8": "int8",
    "int4": "int4",
    "uint4": "int4",
    "fp4": "mxfp4",
}
_INTEGERS: Mapping[int, Precision] = {4: "int4", 8: "int8"}


def detect(source: Path | JsonMapping) -> CheckpointQuantization | None:
    """What the weights in a folder, or those a configuration describes, are quantised with.

    Both engines look in this order, and so does this: `quantization_config`,
    `text_config.quantization_config`, `compression_config`, then the file that ModelOpt writes
    beside the configuration (vLLM 0.33 config/model.py, SGLang 0.5.23 configs/model_config.py).
    A folder of GGUF files needs no configuration.

    Raises:
        UserError: a file cannot be read, or says something that makes no sense.
    """
    if not isinstance(source, Path):
        return _from_config(source, CONFIG)
    config = source / CONFIG
    found = _from_config(load_json(config), str(config)) if config.is_file() else None
    if found is not None:
        return found
    if (source / MODELOPT_CONFIG).is_file():
        return _from_modelopt_file(source / MODELOPT_CONFIG)
    return CheckpointQuantization("gguf", source="*.gguf") if _is_gguf(source) else None


def _is_gguf(folder: Path) -> bool:
    others = ("*.safetensors", "*.bin", "*.pt")
    return any(folder.glob("*.gguf")) and not any(any(folder.glob(each)) for each in others)


def _from_config(config: JsonMapping, where: str) -> CheckpointQuantization | None:
    text = config.get("text_config")
    places = [
        ("quantization_config", config),
        ("text_config.quantization_config", text if isinstance(text, dict) else {}),
        ("compression_config", config),
    ]
    for key, place in places:
        part = place.get(key.rpartition(".")[2])
        if part is None or part == {}:
            continue
        if not isinstance(part, dict):
            raise UserError(f"{where}: {key} is {part!r}; it has to be a mapping")
        return _from_part(part, f"{where} {key}")
    return None


def _from_part(part: JsonMapping, source: str) -> CheckpointQuantization:
    fields = Fields(source, part, {})
    method = fields.text("quant_method").lower().replace("_", "-")
    method = method.replace("modelopt-", "modelopt_")
    if method in _MODELOPT_METHODS or (not method and "quant_algo" in part):
        return _modelopt(fields, source, method)
    if method in ("compressed-tensors", "") and "config_groups" in part:
        return _compressed(fields, source)
    weights = _weights_of(method, fields)
    return CheckpointQuantization(
        _engine_name(method) or "unknown",
        weights,
        _kv_format(fields.nested("kv_cache_scheme", "kv_cache_quant_config")),
        source,
        experts_only=method in ("mxfp4", "gpt-oss-mxfp4") or _spares_attention(part),
    )


def _engine_name(method: str) -> str:
    """As the engines write it: most names have underscores, these two a dash."""
    return method if method in ("compressed-tensors", "auto-round") else method.replace("-", "_")


def _weights_of(method: str, fields: Fields) -> Precision | None:
    if method == "fp8":
        return "fp8_block" if fields.values.get("weight_block_size") else "fp8"
    if method == "fbgemm-fp8":
        return "fp8_channel"
    if method in ("mxfp4", "gpt-oss-mxfp4"):
        return "mxfp4"
    if method == "mxfp8":
        return "mxfp8"
    if method == "w4afp8":
        return "int4"
    if method == "bitsandbytes":
        return "int4" if fields.flag("load_in_4bit") or fields.flag("_load_in_4bit") else "int8"
    if method == "quark":
        return _quark(fields)
    bits = fields.values.get("bits", fields.values.get("w_bit"))
    return _INTEGERS.get(bits) if isinstance(bits, int) else None


def _quark(fields: Fields) -> Precision | None:
    whole = fields.nested("global_quant_config")
    weight = whole.get("weight") if whole is not None else None
    if isinstance(weight, list):
        weight = weight[0] if weight else None
    dtype = weight.get("dtype") if isinstance(weight, dict) else None
    if not isinstance(weight, dict) or not isinstance(dtype, str):
        return None
    found = _QUARK.get(dtype.lower())
    if found == "fp8" and weight.get("qscheme") == "per_channel":
        return "fp8_channel"
    return found


def _compressed(fields: Fields, source: str) -> CheckpointQuantization:
    """compressed-tensors: groups of modules, each with a scheme; the widest says the format."""
    groups = fields.nested("config_groups") or {}
    formats = [found for group in groups.values() if (found := _group_format(group)) is not None]
    return CheckpointQuantization(
        "compressed-tensors",
        formats[0] if len(set(formats)) == 1 else None,
        _kv_format(fields.nested("kv_cache_scheme")),
        source,
        experts_only=_spares_attention(fields.values),
    )


def _group_format(group: object) -> Precision | None:
    scheme = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(scheme, dict):
        return None
    bits, kind = scheme.get("num_bits"), scheme.get("type")
    if kind == "int":
        return _INTEGERS.get(bits) if isinstance(bits, int) else None
    if kind == "float" and bits == 4:
        return "mxfp4" if scheme.get("group_size") == 32 else "nvfp4"
    if kind == "float" and bits == 8:
        return _FLOAT_FORMATS.get(str(scheme.get("strategy")))
    return None


def _spares_attention(part: JsonMapping) -> bool:
    """True when what is left out of quantisation names the attention of all layers."""
    keys = ("ignore", "modules_to_not_convert", "ignored_layers", "exclude", "exclude_modules")
    lists = [part.get(key) for key in keys]
    names = [name for each in lists if isinstance(each, list) for name in each]
    return _has_pattern(names, ("self_attn", "attn", "attention"))


def _has_pattern(names: Iterable[object], words: tuple[str, ...]) -> bool:
    """A pattern or a bare word, not one layer's full name."""
    texts = [name for name in names if isinstance(name, str)]
    general = [name for name in texts if name.startswith(("re:", "*")) or "." not in name]
    return any(word in name for name in general for word in words)


def _from_modelopt_file(path: Path) -> CheckpointQuantization:
    read = Fields(str(path), load_json(path), {})
    part = read.nested("quantization")
    if part is None:
        raise UserError(f"{path}: lacks the mapping 'quantization' that ModelOpt writes")
    return _modelopt(Fields(str(path), part, {}), str(path), "modelopt")


def _modelopt(fields: Fields, source: str, method: str) -> CheckpointQuantization:
    algorithm = fields.text("quant_algo").upper()
    cache = fields.text("kv_cache_quant_algo").upper()
    kv_cache = _kv_format(fields.nested("kv_cache_scheme"))
    if cache:
        kv_cache = {"FP8": "fp8", "NVFP4": "nvfp4", "INT8": "int8"}.get(cache)  # type: ignore[assignment]  # all are precisions
    name, weights = _MODELOPT.get(algorithm, (method or "modelopt", None))
    if algorithm == "MIXED_PRECISION":
        name, weights = _mixed(fields)
    spares = _spares_attention(fields.values)
    return CheckpointQuantization(name, weights, kv_cache, source, experts_only=spares)


def _mixed(fields: Fields) -> tuple[str, Precision | None]:
    """Layers of several formats: NVFP4 among them, or 4-bit integers beside fp8."""
    layers = fields.nested("quantized_layers") or {}
    algorithms = {
        str(layer.get("quant_algo", "")).upper()
        for layer in layers.values()
        if isinstance(layer, dict)
    }
    if any("NVFP4" in each for each in algorithms):
        return "modelopt_mixed", None
    return "w4afp8", "int4"


def _kv_format(scheme: JsonMapping | None) -> Precision | None:
    """The format of a `kv_cache_scheme`: bits and kind of number."""
    if scheme is None:
        return None
    kind = (scheme.get("type"), scheme.get("num_bits"))
    formats: Mapping[tuple[object, object], Precision] = {
        ("float", 8): "fp8",
        ("float", 4): "nvfp4",
        ("int", 8): "int8",
    }
    return formats.get(kind)
