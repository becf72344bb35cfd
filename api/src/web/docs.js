// Shows openapi.json and asyncapi.json. Their text is only set as text, never as markup.

const make = (tag, ...inside) => {
  const element = document.createElement(tag);
  element.append(...inside);
  return element;
};

const follow = (root, value) => {
  while (value?.$ref) {
    const path = value.$ref.slice(2).split("/");
    value = path.reduce((found, key) => found?.[key.replaceAll("~1", "/")], root);
  }
  return value ?? {};
};

// Prints a schema in a few lines, similar to the JSON that it describes. `within` has the names of the schemas around
// it, which are not printed again.
const shape = (root, schema, indent = "", within = []) => {
  if (schema === true || !schema) return "any";
  const name = schema.$ref?.split("/").pop();
  if (name && within.includes(name)) return name;
  const inner = name ? [...within, name] : within;
  const found = follow(root, schema);
  const each = (parts, between) => parts.map((part) => shape(root, part, indent, inner)).join(between);
  if ("const" in found) return JSON.stringify(found.const);
  if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(" | ");
  const choices = found.anyOf ?? found.oneOf;
  if (choices) return each(choices, " | ");
  const all = found.allOf ? each(found.allOf, " & ") : null;
  if (found.properties) {
    const more = `${indent}  `;
    const fields = Object.entries(found.properties).map(([key, value]) => {
      const mark = found.required?.includes(key) ? "" : "?";
      const about = follow(root, value).description?.split("\n")[0];
      return `${more}${key}${mark}: ${shape(root, value, more, inner)}${about ? `  // ${about}` : ""}`;
    });
    const object = `{\n${fields.join("\n")}\n${indent}}`;
    return all ? `${all} & ${object}` : object;
  }
  if (all) return all;
  const values = found.additionalProperties ?? Object.values(found.patternProperties ?? {})[0];
  if (values) return `{ [key]: ${shape(root, values, indent, inner)} }`;
  const kinds = [found.type ?? "any"].flat().map((kind) => {
    if (kind !== "array") return found.format ? `${kind} (${found.format})` : kind;
    const parts = found.prefixItems ?? (Array.isArray(found.items) ? found.items : null);
    return parts ? `[${each(parts, ", ")}]` : `${shape(root, found.items, indent, inner)}[]`;
  });
  return kinds.join(" | ");
};

const code = (text) => make("pre", make("code", text));

// Creates a foldable entry, whose content is created when it is first opened.
const fold = (word, title, about, fill) => {
  const details = make("details", make("summary", make("b", word), ` ${title} `, make("small", about)));
  details.dataset.words = `${word} ${title} ${about}`.toLowerCase();
  details.addEventListener("toggle", () => details.append(...fill()), { once: true });
  return details;
};

const list = (pairs) => {
  const entries = make("dl");
  for (const [term, ...about] of pairs) entries.append(make("dt", term), make("dd", ...about));
  return entries;
};

const content = (root, content = {}) =>
  Object.entries(content).flatMap(([kind, { schema }]) => [make("small", kind), code(shape(root, schema))]);

const operation = (root, method, path, described) =>
  fold(method.toUpperCase(), path, described.summary ?? "", () => {
    const needs = (described.security ?? []).length ? "Takes a token." : "";
    const parameters = described.parameters.map((one) => [
      `${one.name} (${one.in})`,
      `${shape(root, one.schema)} ${one.description ?? ""}`,
    ]);
    const answers = Object.entries(described.responses).map(([status, answer]) => {
      const { description, content: body } = follow(root, answer);
      const parts = Number(status) < 400 ? content(root, body) : [];
      return [status, description, ...parts];
    });
    return [needs, list(parameters), ...content(root, described.requestBody?.content), list(answers)];
  });

const showHttp = (root, section) => {
  document.querySelector("#about").textContent = root.info.description;
  for (const { name, description } of root.tags) {
    section.append(make("h3", name), make("p", description));
    for (const [path, methods] of Object.entries(root.paths))
      for (const [method, described] of Object.entries(methods))
        if (described.tags.includes(name)) section.append(operation(root, method, path, described));
  }
};

const showChannels = (root, section) => {
  const messages = (references) =>
    references.map((reference) => follow(root, reference)).flatMap((message) => [
      make("small", `${message.name}: ${message.summary ?? ""}`),
      code(shape(root, message.payload)),
    ]);
  for (const [name, channel] of Object.entries(root.channels)) {
    section.append(make("h3", channel.address), make("p", channel.description ?? ""));
    for (const [title, one] of Object.entries(root.operations)) {
      if (one.channel.$ref !== `#/channels/${name}`) continue;
      section.append(
        fold(one.action, title, one.summary ?? "", () => [
          ...messages(one.messages),
          ...(one.reply ? [make("p", "Answers:"), ...messages(one.reply.messages)] : []),
        ]),
      );
    }
    const closes = channel["x-closes"];
    if (closes) {
      const pairs = closes.map((close) => [`${close.code} ${close.reason}`, close.about]);
      section.append(fold("close", "codes", "", () => [list(pairs)]));
    }
  }
};

const read = async (path) => (await fetch(path)).json();
showHttp(await read("/openapi.json"), document.querySelector("#http"));
showChannels(await read("/asyncapi.json"), document.querySelector("#sockets"));

document.querySelector("#filter").addEventListener("input", ({ target }) => {
  for (const details of document.querySelectorAll("details"))
    details.hidden = !details.dataset.words.includes(target.value.toLowerCase());
});
