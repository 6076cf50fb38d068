// A stream of steps can be stopped, says so when it breaks off, and shows how long one step takes.
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

// A slow server leaves one step on the screen for minutes: the clock shows that somebody waits.
let watched = null;
let since = 0;

setInterval(() => {
  const pill = state()?.querySelector("[data-running]");
  if (!pill) return;
  if (pill !== watched) [watched, since] = [pill, Date.now()];
  const seconds = Math.floor((Date.now() - since) / 1000);
  if (seconds < 2) return;
  let clock = pill.querySelector(".num");
  if (!clock) {
    clock = document.createElement("span");
    clock.className = "num";
    clock.ariaHidden = "true";
    pill.append(" ", clock);
  }
  clock.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}, 1000);
