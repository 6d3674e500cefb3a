import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import SettingsError
from aurora_swarm.settings import Settings, load_settings


def refusal(**variables: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings({f"AURORA_SWARM_{name}": text for name, text in variables.items()})
    return caught.value


def test_an_environment_that_says_nothing_sets_nothing() -> None:
    assert load_settings({}) == Settings()
    assert load_settings({"PATH": "/bin", "MAX_TOKENS": "x", "AURORA_SWARM_OTHER": "x"}) == Settings()


def test_every_variable_is_read() -> None:
    texts = ["fleet.txt", "100", "200", "4096", "2.5", "s3cret", "m", "m.gguf", "/cache"]
    environ = {f"AURORA_SWARM_{n.upper()}": t for n, t in zip(Settings.__struct_fields__, texts, strict=True)}
    assert load_settings(environ) == Settings("fleet.txt", 100, 200, 4096, 2.5, "s3cret", "m", "m.gguf", "/cache")


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_a_variable_without_a_value_counts_as_unset(text: str) -> None:
    assert load_settings({"AURORA_SWARM_MAX_TOKENS": text, "AURORA_SWARM_HOSTFILE": text}) == Settings()


def test_space_around_a_value_is_dropped() -> None:
    environ = {"AURORA_SWARM_MAX_TOKENS": " 12\n", "AURORA_SWARM_API_KEY": "s3cret\n"}
    assert load_settings(environ) == Settings(max_tokens=12, api_key="s3cret")


@pytest.mark.parametrize("text", ["null", "true", "12"])
def test_text_stays_text(text: str) -> None:
    assert load_settings({"AURORA_SWARM_MODEL": text}).model == text


@pytest.mark.parametrize("text", ["many", "0", "-1", "1.5", "true", "null", "nan", "9" * 5000, "\udcff"])
@pytest.mark.parametrize("name", ["MAX_TOKENS", "MAX_TOKENS_AGGREGATION", "MODEL_MAX_CONTEXT"])
def test_a_number_of_tokens_is_whole_and_positive(name: str, text: str) -> None:
    error = refusal(**{name: text})
    assert error.source == f"AURORA_SWARM_{name}"
    assert "is not a whole number above 0" in error.problem
    assert error.remedy == f"set AURORA_SWARM_{name} to a whole number above 0, or unset it"
    assert len(str(error)) < 200


@pytest.mark.parametrize("text", ["soon", "0", "-0.5", "nan", "inf", "true", "null"])
def test_a_time_is_finite_and_positive(text: str) -> None:
    error = refusal(TIMEOUT_PER_SEQUENCE=text)
    assert str(error) == f"AURORA_SWARM_TIMEOUT_PER_SEQUENCE: '{text}' is not a number of seconds above 0"


@pytest.mark.parametrize("key", ["hunter2\nHost: x", "hunter2\x00", "hunter2ü", "hunter2\udcff"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    error = refusal(API_KEY=key)
    assert error.source == "AURORA_SWARM_API_KEY"
    assert "hunter2" not in str(error.as_dict())


def test_every_wrong_variable_is_named() -> None:
    error = refusal(MAX_TOKENS="x", MODEL="m", TIMEOUT_PER_SEQUENCE="y")
    assert [e.source for e in (error, *error.others)] == [
        "AURORA_SWARM_MAX_TOKENS",
        "AURORA_SWARM_TIMEOUT_PER_SEQUENCE",
    ]


def test_printing_settings_does_not_show_the_key() -> None:
    settings = Settings(api_key="hunter2", model="m")
    shown = repr(settings) + str(settings) + str(list(settings.__rich_repr__()))
    assert "hunter2" not in shown
    assert "model='m'" in shown
    assert "api_key=None" in repr(Settings())


@given(st.dictionaries(st.sampled_from(Settings.__struct_fields__), st.text()))
def test_any_environment_is_settings_or_a_settings_error(texts: dict[str, str]) -> None:
    environ = {f"AURORA_SWARM_{name.upper()}": text for name, text in texts.items()}
    try:
        outcome: object = load_settings(environ)
    except SettingsError as error:
        outcome = error.remedy
    assert outcome
