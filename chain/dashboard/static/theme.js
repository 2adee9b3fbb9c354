// Light or dark as the reader has chosen, set before anything is drawn; without a choice the system decides.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem('theme');
  } catch {
    // No storage for this page: the system decides.
  }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
}
