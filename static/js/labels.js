// A field for several tags: its list completes the tag under way, after those that stand there.
const CUT = /[,;，；、]/;

document.addEventListener("input", (event) => {
  const field = event.target;
  if (!field.matches?.(".tags-field")) return;
  const list = field.list;
  if (!list) return;
  const parts = field.value.split(CUT);
  parts.pop();
  const there = new Set(parts.map((part) => part.trim().toLowerCase()));
  const before = there.size ? `${parts.map((part) => part.trim()).join(", ")}, ` : "";
  for (const option of list.options) {
    option.dataset.tag ??= option.value;
    option.value = before + option.dataset.tag;
    option.disabled = there.has(option.dataset.tag);
  }
});
