"""HL7 messages for the tests, in the dialects that gateways send. All people in them are invented."""

from __future__ import annotations

from operators.monitor.hl7_message import time_text

S = 1_000_000_000
T0 = 1_790_000_000 * S
PATIENT = "PID|||MRN4711^^^HOSP^MR||Mustermann^Erika^^^^^L||19700101|F|||Heidestrasse 17^^Koeln"
PCD01 = "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO"
PCD04 = "IHE_PCD_ACM_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.4.1^ISO"


def header(kind: str, control: str, time: int, *, sender: str = "GATEWAY^0012210000000A01^EUI-64", acks: str = "AL|NE",
           profile: str = PCD01) -> str:  # fmt: skip
    begin = f"MSH|^~\\&|{sender}|HOSP|||{time_text(time)}||ORU^{kind}^ORU_{kind}"
    return f"{begin}|{control}|P|2.6|||{acks}||UNICODE UTF-8|||{profile}"


def observations(
    values: dict[str, tuple[str, str, str]] | None = None, *, control: str = "1", time: int = T0, bed: str = "OR^1^A",
    acks: str = "AL|NE", extra: tuple[str, ...] = (), observed: str = "",
) -> bytes:  # fmt: skip
    """A PCD-01 message. ``values``: OBX-3 to (path, OBX-5, OBX-6)."""
    found = values if values is not None else {
        "150039^MDC_PRESS_BLD_ART_ABP_MEAN^MDC": ("1.1.2.150039", "58", "266016^MDC_DIM_MMHG^MDC"),
        "147842^MDC_ECG_HEART_RATE^MDC": ("1.1.1.147842", "71", "264864^MDC_DIM_BEAT_PER_MIN^MDC"),
        "150456^MDC_PULS_OXIM_SAT_O2^MDC": ("1.1.3.150456", "97.5", "262688^MDC_DIM_PERCENT^MDC"),
    }  # fmt: skip
    lines = [header("R01", control, time, acks=acks), PATIENT, f"PV1||I|{bed}",
             f"OBR|1|X^GW|F{control}^GW|69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|||{time_text(time)}",
             "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X"]  # fmt: skip
    for place, (code, (path, value, unit)) in enumerate(found.items(), 2):
        lines.append(f"OBX|{place}|NM|{code}|{path}|{value}|{unit}|||||R|||{observed}")
    return ("\r".join((*lines, *extra)) + "\r").encode()


def alert(
    phase: str, *, control: str = "9", time: int = T0, identity: str = "ALERT77^GW", old: bool = False,
    priority: str = "PH", state: str = "active", value: str = "88", text: str = "SpO2 low, Mustermann",
) -> bytes:  # fmt: skip
    """A PCD-04 message in the newer dialect (6848x, with names) or, ``old``, the older (6816x, numbers only)."""
    oid = "1.3.6.1.4.1.19376.1.6.4.4" if old else "1.3.6.1.4.1.19376.1.6.1.4.1"
    first = 68164 if old else 68481
    names = ("MDC_ATTR_EVENT_PHASE", "MDC_ATTR_ALARM_STATE", "MDC_ATTR_ALARM_INACTIVATION_STATE",
             "MDC_ATTR_ALARM_PRIORITY", "MDC_ATTR_ALERT_TYPE")  # fmt: skip
    path = "1.1.3.150456"
    lines = [header("R40", control, time, profile=f"IHE_PCD_ACM_001^IHE PCD^{oid}^ISO"), PATIENT, "PV1||I|OR^1^A",
             f"OBR|1||{identity}|196616^MDC_EVT_ALARM^MDC|||{time_text(time)}",
             f"OBX|1|ST|196674^MDC_EVT_LO_VAL_LT_LIM^MDC|{path}.1|{text}|||L~{priority}~SP|||F",
             f"OBX|2|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|{path}.2|{value}|262688^MDC_DIM_PERCENT^MDC|90-100||||R",
             ]  # fmt: skip
    for offset, word in enumerate((phase, state, "enabled", priority, "SP")):
        name = "" if old else f"^{names[offset]}^MDC"
        lines.append(f"OBX|{offset + 3}|ST|{first + offset}{name}|{path}.{offset + 3}|{word}||||||R")
    return ("\r".join(lines) + "\r").encode()
