"""The words that a value may consist of to be printed: a list, because no test can tell a password from a word."""

from typing import Final


def split_words(text: str) -> frozenset[str]:
    """Return the words of a text, as a set."""
    return frozenset(text.split())


KNOWN_WORDS: Final = split_words(
    """
a access account accounts action actions active add admin after agent agents alert alerts all allow allowed analysis
analytics and android anon any api apis app application apps arg args arm array asc asset assets async at audio audit
auto automation azure aws backend backup bar base basic batch bearer before beta bin binary block board bool boolean
bot branch browser bucket build bundle by cache calendar call catalog cert certs channel chat check chrome chromium cli
client cloud cluster cmd code collection color com command comment comments common compact compose config configs
configuration connect connection connections connector console contact contacts container content contents context
control copy core count crawl create crm cron csv current custom customer customers dash dashboard data database
databases dataset date day days db debug default delete demo deploy design desc desktop dest dev development device dir
directories directory disable disabled discovery disk dist do docker docs document documentation documents domain
download drive driver dry dump edit editor else email embedding embeddings enable enabled encoding end endpoint
endpoints engine english enterprise entry env environment error errors etc event events everything example examples
exec expert export extended extension extensions external extra false fast fatal feature features feed fetch field
fields file files filesystem filter finance find firefox flag flow folder folders for force form format free from full
function functions gateway general generate generator get git github gitlab global gmail google graph graphql group
groups guide handler head headed headless health hello help hidden high history home hook hooks host hosts html http
https hub id ignore image images import in inbox include index info ingest init input insights inspector install
instance int integration internal interactive ipc iso issue issues item items java javascript jira job jobs journal
json jsonl kafka kb kernel keep knowledge kube kubernetes label labels lang large latest launch layer lead leads learn
level lib library license light line link linux list lists live load local locale location log logger logging logs low
mail main manage management manager map maps markdown master max mcp mcps media medium memory menu merge message
messages meta metadata method metrics migrate min mini mobile mode model models modelcontextprotocol module modules
mongo mongodb monitor month mount music my mysql name names namespace native net network new news next no node none
norm note notebook notes notion npm null number object observability of off offline office offset ollama on once one
only open openai openapi operations option options or order orders org organization out output outlook own owner
package packages page pages parent parse path paths people ping pip pipeline plain plan platform playwright plugin
plugins pnpm policy pool port ports postgres postgresql preview print private pro process prod product production
products profile profiles program project projects prompt prompts protocol provider proxy public publish pull puppeteer
push py python query queue quiet rate raw read readme readonly ready real recent records recursive redis ref region
register registry relay release releases remote repo report reports repos repository request requests research reset
resource resources response rest restricted result results retries retry review rg role root route router row rows rpc
rules run runner runtime safe sales salesforce sample sandbox save scan schedule schema schemas scope scopes score
screen script scripts sdk search section selenium self send sequential serve server servers service services set
settings setup sh share shared sheet sheets shell shop short show silent simple single site size skip slack slim small
socket source sources space spec specs sql sqlite src ssl sse staging stage start state static status stdin stdio
stdout step stop storage store stream streamable strict string strip stripe style support sync system table tables tag
target task tasks team teams temp template templates tenant test testing tests text the thinking thread threads ticket
tickets time timeout timezone tls tmp to tool tools toolset toolsets top trace tracker tracing transport true type
typescript ui unit update upload uri url use user username users usr util utc utf util utils uv v validate value values
var vault vector verbose verify version versions video view virtual visual vscode wait warn warning watch weather web
website week wiki window windows with work worker workers workflow workflows workspace workspaces world write yaml year
yes zone zoom
ide assistant planning onboarding experimental isolated vision caps shot codex fastmcp mssql neo4j
pythonunbuffered pythonioencoding pythondontwritebytecode mainnet testnet devnet dlx nixos nixpkgs
sequentialthinking codegraphcontext crawl4ai gongrzhe sylphxltd pymupdf4llm 12306 develop advanced restricted
cd echo eval export nvm sleep cp mkdir chmod printenv make
bash zsh deno bun uvx npx jar war tsx ts js mjs cjs pyz exe cat gpt claude gemini sonnet opus haiku mistral llama
central east north south west northeast northwest southeast southwest eu us ca af ap sa asia europe australia america
en de fr es it pt nl ja zh ko pl ru sv da fi nb tr gb jp cn in br berlin london paris tokyo york
post put patch options head jpeg jpg png svg gif pdf toml ini cfg conf pem crt log txt md xml db sqlite3
auth authorization requires oauth oauth2 saml ldap jwt sha256 sha1 md5 hs256 rs256 es256 x64 x86 amd64 arm64 aarch64
"""
)
"""Words of MCP servers, their options and their services, in lower case."""
