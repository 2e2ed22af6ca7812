"""Arguments of tasks; separate from `prefect.py`, so that their types do not import Prefect."""


class Constant:
    """Base of arguments that contain no result of another task.

    Prefect looks at every value inside an argument for such results, which takes seconds for a recipe of 10,000 texts.
    """
