import pytest
from pydantic import ValidationError

from service.contract.field_errors import in_words
from service.contract.recipe import Recipe


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"learning_rate": 0.1}, "there is no such field here"),
        ([], "Input should be a JSON object"),
    ],
)
def test_what_is_wrong_is_said_in_a_callers_words(given: object, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(given)

    [error] = caught.value.errors()
    said = in_words(error["msg"])

    assert said.startswith(says)
    assert "extract" not in said
    assert "Extra inputs" not in said
