// A field for a model's name, with the models that this project can call as suggestions.

import * as api from "./api.js";
import { h, put } from "./dom.js";
import { field, input } from "./widgets.js";

/** {element, control}; any name may be typed: providers take models that the catalogue does not know. */
export function modelField(signal, chosen = "") {
  const list = h("datalist", { id: "models" });
  const control = input({ list: "models", name: "model", required: true, value: chosen, placeholder: "gpt-4o-mini" });
  const element = h("div", null, field("Model", control, "A model, an alias of the project, or provider/model"), list);
  api.get("/v1/models", { signal }).then(
    (found) => put(list, found.data.map((model) => h("option", { value: model.id }, model.provider))),
    // Suggestions only: without them the name is typed.
    () => put(list),
  );
  return { element, control };
}
