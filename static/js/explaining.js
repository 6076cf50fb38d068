// A stream of steps can be stopped, and says so when it breaks off.
const state = () => document.getElementById("live-state");
const steps = () => document.getElementById("steps");

function say(text) {
  const box = state();
  if (!box?.querySelector("[data-running]")) return;
  const pill = document.createElement("span");
  pill.className = "pill warn";
  pill.textContent = text;
  box.replaceChildren(pill);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-stop]");
  if (!button) return;
  document.getElementById(button.dataset.stop)?.dispatchEvent(new CustomEvent("htmx:abort"));
  say(steps()?.dataset.stopped ?? "");
});

for (const name of ["htmx:sse:close", "htmx:sse:error"]) {
  document.addEventListener(name, () => say(steps()?.dataset.lost ?? ""));
}
