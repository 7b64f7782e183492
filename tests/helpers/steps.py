"""An executor of somebody else, for a step that runs in a process of its own."""

import json
import logging
import os

from tfx.dsl.components.base.base_executor import BaseExecutor


class Bless(BaseExecutor):
    """Says what it sees, and writes about its model."""

    def Do(self, input_dict, output_dict, exec_properties):
        [model], [blessing], [verdict] = (
            input_dict["model"],
            output_dict["blessing"],
            output_dict["verdict"],
        )
        logging.getLogger("branchline.progress").info("%d files", len(os.listdir(model.uri)))
        with open(os.path.join(blessing.uri, "BLESSED"), "w") as file:
            file.write(os.environ["BRANCHLINE_ARTIFACTS_VOLUME"])
        blessing.set_int_custom_property("current_model_id", model.id)
        blessing.set_string_custom_property("current_model", model.uri)
        blessing.set_string_custom_property("parameters", json.dumps(exec_properties))
        tags = model.get_json_value_custom_property("tags")
        blessing.set_string_custom_property("tags", json.dumps(tags))
        verdict.value = "passed"
