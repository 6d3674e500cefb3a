"use strict";
// The page works without this file. With it, questions come and go by themselves, and what is being typed stays.
(() => {
  const open = document.getElementById("open");
  const live = document.getElementById("live");
  const done = document.getElementById("done");
  const notice = document.getElementById("notice");
  const title = document.title;

  const say = (text) => { notice.textContent = text; notice.hidden = !text; };

  const parsed = (html) => {
    const box = document.createElement("template");
    box.innerHTML = html; // made and escaped by the server
    return box.content.firstElementChild;
  };

  const spell = (left) => {
    const whole = Math.max(0, Math.ceil(left));
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60, seconds = whole % 60;
    if (hours) return `${hours} h ${minutes} min`;
    return minutes ? `${minutes} min ${seconds} s` : `${seconds} s`;
  };

  const settle = (card) => {
    const clock = card.querySelector(".left");
    card.due = performance.now() / 1000 + Number(clock.dataset.left);
  };

  const tick = () => {
    for (const card of open.querySelectorAll(".card")) {
      const clock = card.querySelector(".left");
      const left = card.due - performance.now() / 1000;
      const text = `${spell(left)} left`;
      if (clock.textContent !== text) clock.textContent = text;
      clock.classList.toggle("urgent", left < 30);
    }
  };

  const show = (state) => {
    const wanted = new Set(state.cards.map((card) => card.id));
    for (const card of open.querySelectorAll(".card")) if (!wanted.has(card.dataset.id)) card.remove();
    const here = new Set([...open.querySelectorAll(".card")].map((card) => card.dataset.id));
    for (const { id, html } of state.cards) {
      if (here.has(id)) continue;
      const card = parsed(html);
      open.append(card);
      settle(card);
    }
    document.getElementById("empty").hidden = state.waiting > 0;
    const more = document.getElementById("more");
    more.hidden = state.waiting <= state.cards.length;
    more.textContent = `${state.waiting - state.cards.length} more are waiting`;
    done.replaceChildren(...(state.done ? [parsed(state.done)] : []));
    document.title = state.waiting ? `(${state.waiting}) ${title}` : title;
    tick();
  };

  const send = async (form, button) => {
    const body = new URLSearchParams(new FormData(form, button));
    const problem = form.querySelector(".problem");
    const buttons = form.querySelectorAll("button");
    buttons.forEach((each) => { each.disabled = true; });
    try {
      const reply = await fetch("/answer", { method: "POST", body, headers: { Accept: "application/json" } });
      const said = await reply.json();
      if (said.state === "invalid") problem.textContent = said.text;
      else { say(said.text); form.closest(".card").remove(); }
    } catch {
      problem.textContent = "Your answer could not be sent: the program does not respond. Try again.";
    } finally {
      buttons.forEach((each) => { each.disabled = false; });
    }
  };

  document.addEventListener("submit", (event) => {
    if (!event.target.matches(".card form")) return;
    event.preventDefault();
    send(event.target, event.submitter);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !event.target.matches("textarea")) return;
    event.target.form.requestSubmit();
  });

  open.querySelectorAll(".card").forEach(settle);
  const events = new EventSource("/events");
  events.onopen = () => { live.className = "live on"; live.textContent = "Live"; };
  events.onerror = () => { live.className = "live off"; live.textContent = "The program does not respond"; };
  events.addEventListener("state", (event) => show(JSON.parse(event.data)));
  events.addEventListener("end", () => {
    events.close();
    live.className = "live off";
    live.textContent = "The run has ended";
  });
  setInterval(tick, 500);
})();
