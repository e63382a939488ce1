"""What a vendor's channel means: ISO/IEEE 11073-10101 reference ids and UCUM units.

One table maps the last part of a channel name (``Intellivue/ABP_MEAN`` -> ``ABP_MEAN``), as Vital Recorder, the
MIMIC and CinC records and our own theatre spell it, to a meaning; another maps unit spellings to UCUM. A channel that
is not in the table keeps its name and has no code: nothing is guessed.

Reference ids follow the nomenclature's public listings (NIST RTMMS). Numeric codes are given only for the ones that
were cross-checked in the project's fact card; HL7 senders give the reference id beside the number anyway.
"""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """``code``: MDC reference id, empty where unknown; ``unit``: UCUM, empty where the quantity has none."""

    code: str
    unit: str


UNKNOWN = Meaning("", "")

_MMHG, _PER_MINUTE, _PERCENT, _CELSIUS, _CMH2O = "mm[Hg]", "/min", "%", "Cel", "cm[H2O]"

MEANINGS: dict[str, Meaning] = {
    # invasive pressures
    "ABP": Meaning("MDC_PRESS_BLD_ART_ABP", _MMHG),
    "ABP_SYS": Meaning("MDC_PRESS_BLD_ART_ABP_SYS", _MMHG),
    "ABP_DIA": Meaning("MDC_PRESS_BLD_ART_ABP_DIA", _MMHG),
    "ABP_MEAN": Meaning("MDC_PRESS_BLD_ART_ABP_MEAN", _MMHG),
    "ART": Meaning("MDC_PRESS_BLD_ART", _MMHG),
    "ART_SYS": Meaning("MDC_PRESS_BLD_ART_SYS", _MMHG),
    "ART_DIA": Meaning("MDC_PRESS_BLD_ART_DIA", _MMHG),
    "ART_MEAN": Meaning("MDC_PRESS_BLD_ART_MEAN", _MMHG),
    "CVP": Meaning("MDC_PRESS_BLD_VEN_CENT", _MMHG),
    "CVP_MEAN": Meaning("MDC_PRESS_BLD_VEN_CENT_MEAN", _MMHG),
    "PAP": Meaning("MDC_PRESS_BLD_ART_PULM", _MMHG),
    "PAP_SYS": Meaning("MDC_PRESS_BLD_ART_PULM_SYS", _MMHG),
    "PAP_DIA": Meaning("MDC_PRESS_BLD_ART_PULM_DIA", _MMHG),
    "PAP_MEAN": Meaning("MDC_PRESS_BLD_ART_PULM_MEAN", _MMHG),
    "ICP": Meaning("MDC_PRESS_INTRA_CRAN", _MMHG),
    "ICP_MEAN": Meaning("MDC_PRESS_INTRA_CRAN_MEAN", _MMHG),
    # non-invasive pressure
    "NIBP_SYS": Meaning("MDC_PRESS_BLD_NONINV_SYS", _MMHG),
    "NIBP_DIA": Meaning("MDC_PRESS_BLD_NONINV_DIA", _MMHG),
    "NIBP_MEAN": Meaning("MDC_PRESS_BLD_NONINV_MEAN", _MMHG),
    "NIBP_HR": Meaning("MDC_PULS_RATE_NON_INV", _PER_MINUTE),
    # electrocardiogram and rates
    "ECG": Meaning("MDC_ECG_ELEC_POTL", "mV"),
    "ECG_I": Meaning("MDC_ECG_ELEC_POTL_I", "mV"),
    "ECG_II": Meaning("MDC_ECG_ELEC_POTL_II", "mV"),
    "ECG_III": Meaning("MDC_ECG_ELEC_POTL_III", "mV"),
    "ECG_AVR": Meaning("MDC_ECG_ELEC_POTL_AVR", "mV"),
    "ECG_AVL": Meaning("MDC_ECG_ELEC_POTL_AVL", "mV"),
    "ECG_AVF": Meaning("MDC_ECG_ELEC_POTL_AVF", "mV"),
    "ECG_V": Meaning("MDC_ECG_ELEC_POTL_V", "mV"),
    "ECG_V1": Meaning("MDC_ECG_ELEC_POTL_V1", "mV"),
    "ECG_V5": Meaning("MDC_ECG_ELEC_POTL_V5", "mV"),
    "ECG_MLII": Meaning("MDC_ECG_ELEC_POTL_MLII", "mV"),
    "ECG_MCL1": Meaning("MDC_ECG_ELEC_POTL_MCL1", "mV"),
    "ECG_HR": Meaning("MDC_ECG_HEART_RATE", _PER_MINUTE),
    "HR": Meaning("MDC_ECG_HEART_RATE", _PER_MINUTE),
    "ST_II": Meaning("MDC_ECG_AMPL_ST_II", "mm"),
    # oximetry
    "PLETH": Meaning("MDC_PULS_OXIM_PLETH", "1"),
    "PLETH_SAT_O2": Meaning("MDC_PULS_OXIM_SAT_O2", _PERCENT),
    "PLETH_HR": Meaning("MDC_PULS_OXIM_PULS_RATE", _PER_MINUTE),
    "PLETH_PERF_REL": Meaning("MDC_PULS_OXIM_PERF_REL", "1"),
    # respiration and gas
    "RESP": Meaning("MDC_IMPED_TTHOR", "Ohm"),
    "RR": Meaning("MDC_RESP_RATE", _PER_MINUTE),
    "CO2": Meaning("MDC_CONC_AWAY_CO2", _MMHG),
    "ETCO2": Meaning("MDC_CONC_AWAY_CO2_ET", _MMHG),
    "INCO2": Meaning("MDC_CONC_AWAY_CO2_INSP", _MMHG),
    "RR_CO2": Meaning("MDC_CO2_RESP_RATE", _PER_MINUTE),
    "FIO2": Meaning("MDC_CONC_AWAY_O2_INSP", _PERCENT),
    "FEO2": Meaning("MDC_CONC_AWAY_O2_EXP", _PERCENT),
    "AWP": Meaning("MDC_PRESS_AWAY", _CMH2O),
    "FLOW": Meaning("MDC_FLOW_AWAY", "L/min"),
    "PIP": Meaning("MDC_PRESS_AWAY_INSP_PEAK", _CMH2O),
    "PEEP": Meaning("MDC_PRESS_AWAY_END_EXP_POS", _CMH2O),
    "TV": Meaning("MDC_VOL_AWAY_TIDAL", "mL"),
    "MV": Meaning("MDC_VOL_MINUTE_AWAY", "L/min"),
    "MAC": Meaning("MDC_CONC_MAC", "1"),
    # circulation
    "CO": Meaning("MDC_OUTPUT_CARD", "L/min"),
    "CI": Meaning("MDC_OUTPUT_CARD_INDEX", "L/min/m2"),
    "SV": Meaning("MDC_VOL_BLD_STROKE", "mL"),
    "SVI": Meaning("MDC_VOL_BLD_STROKE_INDEX", "mL/m2"),
    "SVV": Meaning("MDC_VOL_BLD_STROKE_VAR", _PERCENT),
    "SVR": Meaning("MDC_RES_VASC_SYS", "dyn.s/cm5"),
    "SVRI": Meaning("MDC_RES_VASC_SYS_INDEX", "dyn.s/cm5/m2"),
    "PPV": Meaning("MDC_PRESS_BLD_ART_PULSE_VAR", _PERCENT),
    # others
    "TEMP": Meaning("MDC_TEMP", _CELSIUS),
    "BIS": Meaning("MDC_EEG_BISPECTRAL_INDEX", "1"),
    "EEG_BIS": Meaning("MDC_EEG_BISPECTRAL_INDEX", "1"),
    "SQI": Meaning("MDC_EEG_BIS_SIG_QUAL_INDEX", _PERCENT),
    "SR": Meaning("MDC_EEG_RATIO_SUPPRN", _PERCENT),
    "EMG_ELEC_POTL_MUSCL": Meaning("MDC_EMG_ELEC_POTL_MUSCL", "dB"),
    "TOF_CNT": Meaning("MDC_TRAIN_OF_FOUR_CNT", "1"),
    "TOF_RATIO": Meaning("MDC_TRAIN_OF_FOUR_RATIO", _PERCENT),
    "TOF1": Meaning("MDC_TRAIN_OF_FOUR_1", _PERCENT),
    "TOF2": Meaning("MDC_TRAIN_OF_FOUR_2", _PERCENT),
    "TOF3": Meaning("MDC_TRAIN_OF_FOUR_3", _PERCENT),
    "TOF4": Meaning("MDC_TRAIN_OF_FOUR_4", _PERCENT),
}
"""Last part of the channel name, in capitals, to its meaning."""

ALIASES = {
    # Solar8000 (GE) and EV1000 (Edwards)
    "ART_MBP": "ART_MEAN", "ART_SBP": "ART_SYS", "ART_DBP": "ART_DIA",
    "NIBP_MBP": "NIBP_MEAN", "NIBP_SBP": "NIBP_SYS", "NIBP_DBP": "NIBP_DIA",
    "FEM_MBP": "ART_MEAN", "FEM_SBP": "ART_SYS", "FEM_DBP": "ART_DIA", "PLETH_SPO2": "PLETH_SAT_O2",
    "PA_MBP": "PAP_MEAN", "PA_SBP": "PAP_SYS", "PA_DBP": "PAP_DIA", "BT": "TEMP",
    "VENT_RR": "RR", "VENT_TV": "TV", "VENT_MV": "MV", "VENT_PIP": "PIP", "VENT_PEEP": "PEEP",
    # Primus (Draeger)
    "RR_PRIMUS": "RR", "PIP_MBAR": "PIP", "PEEP_MBAR": "PEEP", "AWAY_CO2": "CO2", "AWP_MBAR": "AWP",
    # BIS (Covidien) and WFDB spellings
    "BIS/BIS": "BIS", "I": "ECG_I", "II": "ECG_II", "III": "ECG_III", "V": "ECG_V", "V1": "ECG_V1", "V5": "ECG_V5",
    "AVR": "ECG_AVR", "AVL": "ECG_AVL", "AVF": "ECG_AVF", "MLII": "ECG_MLII", "MCL1": "ECG_MCL1",
    "SPO2": "PLETH_SAT_O2", "MAP": "ABP_MEAN",
}  # fmt: skip
"""Other vendors' names for the same thing."""

UNITS = {
    "mmhg": "mm[Hg]", "mm hg": "mm[Hg]", "mm[hg]": "mm[Hg]", "/min": "/min", "bpm": "/min", "1/min": "/min",
    "per_min": "/min", "%": "%", "mv": "mV", "uv": "uV", "c": "Cel", "℃": "Cel", "°c": "Cel", "cel": "Cel",
    "degc": "Cel", "mbar": "mbar", "hpa": "hPa", "cmh2o": "cm[H2O]", "cm[h2o]": "cm[H2O]", "l/min": "L/min", "ml": "mL",
    "ml/m2": "mL/m2", "l/min/m2": "L/min/m2", "ohm": "Ohm", "kpa": "kPa", "nu": "1", "": "", "db": "dB", "vol%": "%",
    "hz": "Hz", "s": "s", "ms": "ms", "mm": "mm", "l": "L", "m2": "m2", "1": "1",
}  # fmt: skip
"""Vendors' unit spellings, in small letters, to UCUM."""

MDC_UNITS = {
    "MDC_DIM_MMHG": "mm[Hg]", "MDC_DIM_BEAT_PER_MIN": "/min", "MDC_DIM_RESP_PER_MIN": "/min", "MDC_DIM_PERCENT": "%",
    "MDC_DIM_MILLI_VOLT": "mV", "MDC_DIM_DEGC": "Cel", "MDC_DIM_CM_H2O": "cm[H2O]", "MDC_DIM_X_L_PER_MIN": "L/min",
    "MDC_DIM_MILLI_L": "mL", "MDC_DIM_MILLI_BAR": "mbar", "MDC_DIM_KILO_PASCAL": "kPa", "MDC_DIM_DIMLESS": "1",
    "MDC_DIM_PER_MIN": "/min", "MDC_DIM_SEC": "s", "MDC_DIM_MILLI_SEC": "ms", "MDC_DIM_L_PER_MIN": "L/min",
    "264864": "/min", "266016": "mm[Hg]", "262688": "%", "264928": "/min", "262656": "1",
}  # fmt: skip
"""11073-10101 units, by reference id and (where checked) number, to UCUM."""

NUMBERS = {
    "150037": "MDC_PRESS_BLD_ART_ABP_SYS", "150038": "MDC_PRESS_BLD_ART_ABP_DIA",
    "150039": "MDC_PRESS_BLD_ART_ABP_MEAN",
    "147842": "MDC_ECG_HEART_RATE", "150456": "MDC_PULS_OXIM_SAT_O2", "151708": "MDC_CONC_AWAY_CO2_ET",
}  # fmt: skip
"""Numeric codes that were cross-checked, to reference ids: for senders that leave the name out."""


def short(channel: str) -> str:
    """The table's name for a channel: ``Solar8000/ART_MBP`` -> ``ART_MEAN``; the last part in capitals if unknown."""
    name = channel.rpartition("/")[2].upper()
    return ALIASES.get(name, name)


def meaning(channel: str) -> Meaning:
    """What the table says about a channel; ``UNKNOWN`` where it says nothing."""
    return MEANINGS.get(short(channel), UNKNOWN)


def ucum(unit: str) -> str:
    """A vendor's or MDC unit as UCUM; an unknown spelling is kept as it is."""
    unit = unit.strip()
    return MDC_UNITS.get(unit) or UNITS.get(unit.lower(), unit)


def describe(channel: str, unit: str) -> Meaning:
    """Code of a channel, with the unit its file gives (as UCUM) or, where it gives none, the table's."""
    known = meaning(channel)
    return Meaning(known.code, ucum(unit) or known.unit)


_CHANNELS = {found.code: name for name, found in reversed(MEANINGS.items())}


def channel_of(code: str) -> str:
    """The table's channel name for a reference id, or the id itself: ``MDC_PULS_OXIM_SAT_O2`` -> ``PLETH_SAT_O2``."""
    return "HR" if code == "MDC_ECG_HEART_RATE" else _CHANNELS.get(code, code)
