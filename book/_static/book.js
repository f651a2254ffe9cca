/* Figures open large at a touch; the frames of tables say whether there is more to the side. */
"use strict";

function openLarge(figure) {
  const dialog = document.createElement("dialog");
  dialog.className = "figure-dialog";
  dialog.setAttribute("aria-label", "Figure, large");
  dialog.innerHTML = '<form method="dialog"><button autofocus>Close</button></form><div class="figure-room" tabindex="0"></div>';
  dialog.querySelector(".figure-room").append(figure.cloneNode(true));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("click", event => {
  const button = event.target.closest(".figure-large");
  const drawn = event.target.closest(".book-figure svg, .cell_output img");
  if (button) openLarge(button.closest(".proof").previousElementSibling.firstElementChild);
  else if (drawn && !drawn.closest("dialog")) openLarge(drawn);
});

function markFrames() {
  for (const frame of document.querySelectorAll(".table-frame")) {
    frame.classList.toggle("has-more", frame.scrollWidth > frame.clientWidth + 1);
  }
}
addEventListener("load", markFrames);
addEventListener("resize", markFrames);
document.addEventListener("change", markFrames);
document.addEventListener("toggle", markFrames, true);

/* The theme names its search button otherwise than it reads. */
addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".search-button-field")) button.removeAttribute("aria-label");
});
