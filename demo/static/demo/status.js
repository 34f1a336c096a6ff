// The status page: posts the form without a reload, and keeps the list and the title true.

const NEWEST = 50; // as many as Django renders
const title = document.title;
const list = document.getElementById("statuses");
const form = document.getElementById("post");
const errors = document.getElementById("errors");
const connection = document.getElementById("connection");
const config = JSON.parse(document.getElementById("pubsub-config").textContent);

// ?transport=bosh shows the same page over BOSH; WebSocket is taken otherwise.
const bosh = new URLSearchParams(location.search).get("transport") === "bosh";
const client = new PubSubClient(bosh ? {url: config.boshUrl} : {});

client.addEventListener("state", (event) => showState(event.detail));
showState(client.state);

client.subscribe(list.dataset.node, {
  onItem(item) {
    const shown = find(item.id);
    if (shown) {
      shown.replaceWith(render(item));
    } else if (item.event === "created") {
      showOnTop(render(item)); // an old status that was changed is not news
    }
    showUnread();
  },
  onRetract(id) {
    find(id)?.remove();
  },
});

window.addEventListener("focus", showUnread);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  showErrors({});
  form.querySelector("button").disabled = true;
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: {Accept: "application/json"},
    });
    await onAnswer(answer);
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

list.querySelectorAll("time").forEach(showLocally);
list.querySelectorAll(".message").forEach((message) => {
  message.replaceChildren(...linkify(message.textContent));
});

function render({id, fields}) {
  const entry = document.getElementById("status").content.cloneNode(true).firstElementChild;
  entry.dataset.id = id;
  entry.querySelector(".nick").textContent = fields.nick;
  entry.querySelector(".message").append(...linkify(fields.message));
  entry.querySelector("time").dateTime = fields.time;
  showLocally(entry.querySelector("time"));
  return entry;
}

function showOnTop(entry) {
  entry.classList.add("new");
  list.prepend(entry);
  while (list.children.length > NEWEST) {
    list.lastElementChild.remove();
  }
}

function showUnread() {
  document.title = client.unread ? `(${client.unread}) ${title}` : title;
}

function showState(state) {
  connection.dataset.state = state;
  connection.textContent = state;
}

function showLocally(time) {
  const at = new Date(time.dateTime);
  time.textContent = at.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"});
  time.title = at.toLocaleString();
}

function find(id) {
  return list.querySelector(`[data-id="${CSS.escape(id)}"]`);
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

async function onAnswer(answer) {
  if (answer.ok) {
    form.elements.message.value = "";
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
