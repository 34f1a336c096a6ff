// The status page: posts the form without a reload, and says what goes on. The list keeps itself.

const STATES = {
  connecting: "connecting …",
  online: "online",
  "catching-up": "catching up …",
  offline: "offline, trying again",
  denied: "not let in: reload the page",
};

const title = document.title;
const list = document.getElementById("statuses");
const form = document.getElementById("post");
const errors = document.getElementById("errors");
const connection = document.getElementById("connection");
const config = JSON.parse(document.getElementById("pubsub-config").textContent);

const client = new PubSubClient(options());
client.addEventListener("state", (event) => showState(event.detail));
showState(client.state);

// Rows come with plain text, Django's as well as the client's.
list.addEventListener("pubsub:row", ({target, detail: {item}}) => {
  decorate(target);
  if (item.event === "created" && item.published > config.since) {
    target.classList.add("new");
  }
});
list.querySelectorAll("li").forEach(decorate);
client.bind();

client.subscribe(list.dataset.pubsubCollection, {onItem: showUnread});
window.addEventListener("focus", showUnread);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  showErrors({});
  form.querySelector("button").disabled = true;
  try {
    const body = new FormData(form);
    const headers = {Accept: "application/json"};
    await onAnswer(await fetch(form.action, {method: "POST", body, headers}), body.get("message"));
  } catch {
    errors.textContent = "The server cannot be reached; your text is still here.";
  }
  form.querySelector("button").disabled = false;
  (form.querySelector("[aria-invalid=true]") ?? form.elements.message).focus();
});

// The name is remembered by the browser, so that it is typed once.
form.elements.nick.value ||= localStorage.getItem("nick") ?? "";
form.elements.nick.addEventListener("change", () => {
  localStorage.setItem("nick", form.elements.nick.value);
});

// ?transport=bosh or =websocket fixes the one; ?shared=0 lets each tab have its own connection.
function options() {
  const query = new URLSearchParams(location.search);
  const urls = {
    bosh: config.boshUrl,
    websocket: new URL(config.websocketUrl, location.href).href.replace(/^http/, "ws"),
  };
  return {url: urls[query.get("transport")], shared: query.get("shared") !== "0"};
}

function decorate(row) {
  const message = row.querySelector(".message");
  message.replaceChildren(...linkify(message.textContent));
  showLocally(row.querySelector("time"));
}

function showUnread() {
  document.title = client.unread ? `(${client.unread}) ${title}` : title;
}

function showState(state) {
  connection.dataset.state = state;
  connection.textContent = STATES[state];
}

function showLocally(time) {
  const at = new Date(time.dateTime);
  time.textContent = at.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"});
  time.title = at.toLocaleString();
}

// Addresses in a text become links, without the stop or bracket that may stand behind them;
// everything else stays text, whatever it looks like.
function linkify(text) {
  return text.split(/(https?:\/\/[^\s<>"]*[^\s<>"'.,:;!?)\]}])/).map((part, index) => {
    if (index % 2 === 0) {
      return part;
    }
    const link = document.createElement("a");
    link.href = part;
    link.rel = "nofollow noopener";
    link.textContent = part;
    return link;
  });
}

async function onAnswer(answer, message) {
  if (answer.ok) {
    if (form.elements.message.value === message) {
      form.elements.message.value = ""; // what has been typed meanwhile stays
    }
  } else if (answer.status === 400) {
    showErrors((await answer.json()).errors);
  } else {
    errors.textContent = `The server answered ${answer.status} ${answer.statusText}.`;
  }
}

// What is wrong with each field, by the field's label.
function showErrors(problems) {
  const texts = [];
  for (const field of form.querySelectorAll("input:not([type=hidden])")) {
    const found = problems[field.name] ?? [];
    field.setAttribute("aria-invalid", String(found.length > 0));
    texts.push(...found.map(({message}) => `${field.labels[0].textContent}: ${message}`));
  }
  errors.textContent = texts.join(" ");
}
