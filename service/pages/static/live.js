// Follows one audit: asks for its state every second, and reloads when it has ended.
"use strict";
(function () {
  const live = document.getElementById("live");
  if (!live) return;
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  let pause = 1000;
  async function look() {
    try {
      const answer = await fetch(live.dataset.state, { credentials: "same-origin" });
      if (answer.status === 401) { location.reload(); return; }
      const state = await answer.json();
      document.getElementById("bar").value = state.progress.fraction;
      show("stage", state.progress.stage);
      show("detail", state.progress.detail);
      show("percent", Math.round(100 * state.progress.fraction) + " %");
      const left = state.progress.eta_seconds;
      show("left", left === null ? "" : "about " + Math.ceil(left) + " s left");
      if (["succeeded", "failed", "cancelled"].includes(state.status)) { location.reload(); return; }
      pause = 1000;
      show("offline", "");
    } catch (problem) {
      pause = Math.min(2 * pause, 15000);
      show("offline", "No answer from the service; trying again.");
    }
    setTimeout(look, pause);
  }
  setTimeout(look, 300);
})();
