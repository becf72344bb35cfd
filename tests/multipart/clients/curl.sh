# Sends a form in each way that curl has: names quoted by backslashes, names percent-encoded, and MIME-encoded parts.
base=$1 kind=$2 file=$3
send() {
  name=$1
  shift
  curl -sSf "$@" -F "title=$name $kind" -F room=films "$base/$name-$kind"
}
send curl -F "img=@\"$(printf %s "$file" | sed 's/"/\\"/g')\""
send curl-escape --form-escape -F "img=@\"$(printf %s "$file" | sed 's/"/\\"/g')\";type=image/png"
send curl-base64 -F "img=@\"$(printf %s "$file" | sed 's/"/\\"/g')\";encoder=base64"
